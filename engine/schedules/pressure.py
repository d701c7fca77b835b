"""How hard each layer is pressed, so that its learned sparsity follows a curve."""

from __future__ import annotations

import math
from collections.abc import Iterable

_MOST = 10.0
_FEW = 1e-3


class Pressure:
    """One pull per layer, in units of the learning rate of what is learned: 1 undoes one step.

    A controller with a proportional part of `gain` and an integral part. What it steers is the
    logarithm of the share that is kept: at 95 % a point of sparsity is a fifth of the weights.
    Where a layer is ahead the proportional part falls to zero, or pulls back if `both_ways`.

    The pull is applied beside the optimizer and not in its loss, as decay is in AdamW: there Adam
    would divide it by the size of gradients that nobody knows beforehand.
    """

    def __init__(
        self, paths: Iterable[str], gain: float = 10.0, *, both_ways: bool = False
    ) -> None:
        self.pulls = dict.fromkeys(paths, 0.0)
        self._sums = dict(self.pulls)
        self._gain = gain
        self._least = -_MOST if both_ways else 0.0

    def steer(self, path: str, sparsity: float, wanted: float) -> None:
        """Pull harder where a layer is behind, and less where it is ahead."""
        gap = math.log(max(1 - sparsity, _FEW) / max(1 - wanted, _FEW))
        self._sums[path] = min(_MOST, max(0.0, self._sums[path] + self._gain / 10 * gap))
        self.pulls[path] = self._sums[path] + min(_MOST, max(self._least, self._gain * gap))

    def state(self) -> dict[str, dict[str, float]]:
        """For a checkpoint."""
        return {"pulls": dict(self.pulls), "sums": dict(self._sums)}

    def load(self, state: dict[str, dict[str, float]]) -> None:
        """Take up what `state` gave."""
        self.pulls, self._sums = dict(state["pulls"]), dict(state["sums"])
