"""One cut through the scores of many layers, which are never held all at once.

Scores are read stretch by stretch, each small enough for the processor's cache. A sample says
between which two scores the cut lies, one pass counts what is below and collects the few in
between, and only these are sorted: the answer is exact, and costs little more than reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STRETCH = 1 << 17
"""Entries that are worked on together: with what is made of them they fit a core's cache."""

_SAMPLED = 1 << 16
_SPARSEST_SAMPLE = 128

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """The scored units of one layer.

    `scores(at)` gives the floating scores [len(at)], without NaN, of the units at a slice or at an
    int64 tensor of indices, the same every time; it is asked several times. There are `count`
    units, of which at most `limit` may be chosen; each takes `weight` > 0 of the budget.
    """

    count: int
    scores: Callable[[slice | Tensor], Tensor]
    limit: int
    weight: float = 1.0

    @classmethod
    def of(cls, scores: Tensor) -> Part:
        """All entries of `scores`, which has any shape."""
        flat = scores.detach().reshape(-1)
        return cls(len(flat), flat.__getitem__, len(flat))

    def places(self) -> list[slice]:
        """Slices that cover all units in order."""
        starts = range(0, self.count, STRETCH)
        return [slice(start, min(start + STRETCH, self.count)) for start in starts]

    def array(self, at: slice | Tensor) -> Floats:
        """The scores of some units as float32."""
        found: Floats = self.scores(at).float().cpu().numpy()
        return found

    def sample(self, step: int) -> Floats:
        """The score of one unit in every `step`, somewhere among them; the same every time."""
        first = np.arange(0, self.count, step)
        last = np.minimum(first + step, self.count)
        return self.array(torch.from_numpy(np.random.default_rng(0).integers(first, last)))


def lowest_counts(parts: Sequence[Part], budget: float) -> list[int]:
    """How many of each part's units go if the lowest of all go until `budget` is spent.

    Stops where the total weight is nearest to `budget`. Of equal scores those of earlier parts go
    first.
    """
    limits = [part.limit for part in parts]
    total = sum(part.limit * part.weight for part in parts)
    if budget >= total:
        return limits
    if budget <= 0:
        return [0] * len(parts)
    return _cut(parts, budget)[0]


def lowest_of(part: Part, count: int) -> Tensor:
    """Return a bool CPU tensor [part.count], True at the `count` lowest. Ties: lower index first.

    Raises ValueError for a `count` that there is not.
    """
    return Chooser().lowest_of(part, count)


class Chooser:
    """Answers `lowest_of` for one part after the other.

    Parts that were given their counts by one threshold are all cut at the same score, so where the
    last one was cut is tried first.
    """

    def __init__(self) -> None:
        self._last = np.float32(np.nan)

    def lowest_of(self, part: Part, count: int) -> Tensor:
        """See `lowest_of`."""
        if not 0 <= count <= part.count:
            raise ValueError(f"cannot choose {count} of {part.count} entries")
        if count in (0, part.count):
            return torch.full((part.count,), count > 0, dtype=torch.bool)
        low, high = _bounds([part], np.ones(1), count, 2)
        chosen = _up_to(part, self._last, count) if low <= self._last <= high else None
        if chosen is None:
            self._last = _cut([part], count)[1]
            chosen = _up_to(part, self._last, count)
        assert chosen is not None
        return torch.from_numpy(chosen)


def _up_to(part: Part, highest: np.float32, count: int) -> NDArray[np.bool_] | None:
    """True at the `count` lowest if `highest` is the highest of them, otherwise None."""
    chosen = np.empty(part.count, np.bool_)
    surplus = -count
    for at in part.places():
        surplus += int(np.count_nonzero(np.less_equal(part.array(at), highest, out=chosen[at])))
    for at in reversed(part.places()):
        if surplus <= 0:
            break
        ties = np.flatnonzero(part.array(at) == highest)[-surplus:]
        chosen[at][ties] = False
        surplus -= len(ties)
    return chosen if surplus == 0 else None


@dataclass(frozen=True)
class _Runs:
    """How a part's scores lie to two bounds: `below` of them are at most the lower one.

    Above it and up to the higher one there are `lengths` [runs] of each of `scores` [runs], which
    ascend. What is beyond the part's limit is left out.
    """

    below: int
    scores: Floats
    lengths: Counts


def _cut(parts: Sequence[Part], budget: float) -> tuple[list[int], np.float32]:
    """The counts of `lowest_counts`, and the highest score chosen. 0 < budget < what can go."""
    weights = np.array([part.weight for part in parts])
    spread = 2
    while True:
        low, high = _bounds(parts, weights, budget, spread)
        runs = [_runs(part, low, high) for part in parts]
        gone = np.array([each.below for each in runs])
        between = np.array([each.lengths.sum() for each in runs])
        if gone @ weights <= budget <= (gone + between) @ weights:
            break
        spread *= 8  # the sample was unlucky: look further to both sides
    scores = np.concatenate([each.scores for each in runs])
    order = np.argsort(scores, kind="stable")
    owners = np.repeat(np.arange(len(parts)), [len(each.scores) for each in runs])[order]
    lengths = np.concatenate([each.lengths for each in runs])[order]
    each = weights[owners]
    spent = gone @ weights + np.cumsum(lengths * each) - lengths * each
    # Of the run in which the budget ends as many go as come nearest to it.
    taken = np.clip(np.ceil((budget - spent) / each - 0.5), 0, lengths)
    counts = gone + np.bincount(owners, taken, len(parts))
    highest: np.float32 = np.append(low, scores[order][taken > 0])[-1]
    return [int(count) for count in counts], highest


def _bounds(
    parts: Sequence[Part], weights: NDArray[np.float64], budget: float, spread: int
) -> tuple[np.float32, np.float32]:
    """Two scores that very likely have the cut between them, by a sample of all.

    NaN as the lower one has no score below it, as every comparison with NaN is false.
    """
    nothing, everything = np.float32(np.nan), np.float32(np.inf)
    step = min(sum(part.count for part in parts) // _SAMPLED, _SPARSEST_SAMPLE)
    if step < 2:
        return nothing, everything
    drawn = [_lowest(part.sample(step), -(-part.limit // step)) for part in parts]
    scores = np.concatenate(drawn)
    if len(set(weights.tolist())) == 1:
        scores.sort()
        reached = int(budget / weights[0] / step)
    else:
        owners = np.repeat(np.arange(len(parts)), [len(each) for each in drawn])
        order = np.argsort(scores)
        scores = scores[order]
        reached = int(np.searchsorted(np.cumsum(weights[owners[order]] * step), budget))
    # The rank of a quantile in a sample of S is off by at most √S/2 in one standard deviation.
    margin = int(spread * len(scores) ** 0.5) + len(parts)
    low = scores[reached - margin] if reached >= margin else nothing
    high = scores[reached + margin] if reached + margin < len(scores) else everything
    return low, high


def _runs(part: Part, low: np.float32, high: np.float32) -> _Runs:
    below = 0
    scores, lengths = [np.empty(0, np.float32)], [np.empty(0, np.int64)]
    for at in part.places():
        stretch = part.array(at)
        to = stretch <= low
        below += int(np.count_nonzero(to))
        values, counts = np.unique(stretch[(stretch <= high) ^ to], return_counts=True)
        scores.append(values)
        lengths.append(counts)
    below = min(below, part.limit)
    flat = np.concatenate(scores)
    order = np.argsort(flat, kind="stable")
    ends = np.cumsum(np.concatenate(lengths)[order])
    return _Runs(below, flat[order], np.diff(np.minimum(ends, part.limit - below), prepend=0))


def _lowest(scores: Floats, count: int) -> Floats:
    """The `count` lowest of `scores`, or all, in any order."""
    return scores if count >= len(scores) else np.partition(scores, count)[:count]
