"""How hard each layer is pressed, so that its learned sparsity follows a curve."""

from __future__ import annotations

from collections.abc import Iterable

_MOST = 10.0


class Pressure:
    """One pull per layer, in units of the learning rate of what is learned: 1 undoes one step.

    A controller with a proportional part of `gain` and an integral part. The pull is applied
    beside the optimizer and not in its loss, as decay is in AdamW: there Adam would divide it by
    the size of gradients that nobody knows beforehand.
    """

    def __init__(self, paths: Iterable[str], gain: float = 10.0) -> None:
        self.pulls = dict.fromkeys(paths, 0.0)
        self._sums = dict(self.pulls)
        self._gain = gain

    def steer(self, path: str, sparsity: float, wanted: float) -> None:
        """Pull harder where a layer is behind, and hardly where it is ahead."""
        gap = wanted - sparsity
        self._sums[path] = min(_MOST, max(0.0, self._sums[path] + self._gain / 10 * gap))
        self.pulls[path] = min(_MOST, max(0.0, self._gain * gap + self._sums[path]))

    def state(self) -> dict[str, dict[str, float]]:
        """For a checkpoint."""
        return {"pulls": dict(self.pulls), "sums": dict(self._sums)}

    def load(self, state: dict[str, dict[str, float]]) -> None:
        """Take up what `state` gave."""
        self.pulls, self._sums = dict(state["pulls"]), dict(state["sums"])
