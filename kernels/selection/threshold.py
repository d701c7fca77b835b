"""One cut through the scores of many layers, which are never held all at once.

Scores are read stretch by stretch, each small enough for the processor's cache. A sample says
between which two scores the cut lies, one pass counts what is below and collects the few in
between, and only these are sorted: the answer is exact, and costs little more than reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..formats.bits import unpack_bits

STRETCH = 1 << 17
"""Entries that are worked on together: with what is made of them they fit a core's cache."""

_ALONE = STRETCH // 4  # torch shares out more than so many among threads of its own
_WORTH_A_THREAD = 16

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """The scored units of one layer.

    `scores(at)` gives the floating scores [len(at)], without NaN, of the units at a slice or at an
    int64 tensor of indices, the same every time; several threads may ask at once. There are `count`
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
        starts = range(0, self.count, _ALONE)
        return [slice(start, min(start + _ALONE, self.count)) for start in starts]

    def over(self, work: Callable[[slice], T]) -> list[T]:
        """What `work` gives for each of the places, in order; torch's number of threads share it.

        A barrier after each operation, as torch has it, costs more than these threads in all.
        """
        places = self.places()
        threads = min(torch.get_num_threads(), len(places) // _WORTH_A_THREAD)
        if threads < 2:
            return [work(at) for at in places]
        each = -(-len(places) // threads)
        shares = [places[start : start + each] for start in range(0, len(places), each)]
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(lambda share: [work(at) for at in share], shares))
        return [one for share in found for one in share]

    def array(self, at: slice | Tensor) -> Floats:
        """The scores of some units as float32."""
        found: Floats = self.scores(at).detach().float().cpu().numpy()
        return found

    def sample(self, step: int) -> Floats:
        """The score of one unit in every `step`, somewhere among them; the same every time."""
        first = np.arange(0, self.count, step)
        drawn = first + np.random.default_rng(0).integers(step, size=len(first))
        return self.array(torch.from_numpy(np.minimum(drawn, self.count - 1)))


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
    return [int(count) for count in counts]


def lowest_of(part: Part, count: int) -> Tensor:
    """Return a bool CPU tensor [part.count], True at the `count` lowest. Ties: lower index first.

    Raises ValueError for a `count` that there is not.
    """
    return unpack_bits(all_but_lowest(part, count), part.count).logical_not_()


def all_but_lowest(part: Part, count: int) -> Tensor:
    """True but at the `count` lowest, packed as by `formats.bits.pack_bits`; else as `lowest_of`.

    One pass over the scores, and a second one only where the cut falls among many equal ones.
    """
    if not 0 <= count <= part.count:
        raise ValueError(f"cannot choose {count} of {part.count} entries")
    if count in (0, part.count):
        bits = np.full(-(-part.count // 8), 0 if count else 255, np.uint8)
        bits[-1:] >>= -part.count % 8
        return torch.from_numpy(bits)
    spread = 2
    while True:
        found = _marked(part, count, *_bounds([part], np.ones(1), count, spread))
        if found is not None:
            return torch.from_numpy(found)
        spread *= 8  # the sample was unlucky: look further to both sides


def _marked(part: Part, count: int, low: np.float32, high: np.float32) -> NDArray[np.uint8] | None:
    """`all_but_lowest` if the cut is from `low` to `high`, otherwise None.

    Only what is truly between the two is collected, which never has many equal scores.
    """
    bits = np.empty(-(-part.count // 8), np.uint8)

    def mark(at: slice) -> tuple[int, Counts, Floats]:
        stretch = part.array(at)
        stays = np.logical_not(stretch <= low)
        bits[at.start // 8 : -(-at.stop // 8)] = np.packbits(stays, bitorder="little")
        between = np.flatnonzero(stays & (stretch < high))
        return int(np.count_nonzero(stays)), between + at.start, stretch[between]

    kept, places, scores = zip(*part.over(mark), strict=True)
    missing = count - (part.count - sum(kept))
    if missing < 0:
        return bits if _flip(bits, part, low, -missing, last=True) else None
    if missing > 0 and low == high:
        return None
    goes, found = np.concatenate(places), np.concatenate(scores)
    if missing < len(goes):
        goes = goes[_lowest_places(found, missing)]
    _xor(bits, goes)
    return bits if _flip(bits, part, high, missing - len(goes)) else None


def _lowest_places(scores: Floats, count: int) -> Counts:
    """The indices of the `count` < len(scores) lowest; ties: lower index first."""
    cut = np.partition(scores, count)[count]
    lower = np.flatnonzero(scores < cut)
    return np.append(lower, np.flatnonzero(scores == cut)[: count - len(lower)])


def _flip(
    bits: NDArray[np.uint8], part: Part, score: np.float32, count: int, last: bool = False
) -> bool:
    """Flip the bits of the first or last `count` units of this score; False if there are fewer."""
    places = part.places()
    for at in reversed(places) if last else places:
        if not count:
            break
        ties = np.flatnonzero(part.array(at) == score)
        ties = ties[-count:] if last else ties[:count]
        _xor(bits, ties + at.start)
        count -= len(ties)
    return not count


def _xor(bits: NDArray[np.uint8], places: Counts) -> None:
    """Flip the bits at `places`."""
    np.bitwise_xor.at(bits, places >> 3, np.left_shift(1, places & 7).astype(np.uint8))


@dataclass(frozen=True)
class _Runs:
    """How a part's scores lie to two bounds: `below` of them are below the lower one.

    From it up to the higher one there are `lengths` [runs] of each of `scores` [runs], which
    ascend. What is beyond the part's limit is left out.
    """

    below: int
    scores: Floats
    lengths: Counts


def _bounds(
    parts: Sequence[Part], weights: NDArray[np.float64], budget: float, spread: int
) -> tuple[np.float32, np.float32]:
    """Two scores that very likely have the cut between them, by a sample of all.

    NaN as the lower one has no score below it, as every comparison with NaN is false.
    """
    nothing, everything = np.float32(np.nan), np.float32(np.inf)
    # A sample of S leaves about N/√S of N between the bounds: with this step both cost the same.
    step = round(sum(part.count for part in parts) ** (1 / 3))
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
    def look(at: slice) -> tuple[int, int, int, Floats]:
        stretch = part.array(at)
        under = stretch < low
        near = stretch[(stretch <= high) ^ under]
        # Of truly between there are few; of equal scores at a bound there may be any number.
        inner = near[(near != low) & (near != high)]
        at_low = int(np.count_nonzero(near == low))
        return int(np.count_nonzero(under)), at_low, len(near) - at_low - len(inner), inner

    unders, lows, highs, inner = zip(*part.over(look), strict=True)
    values, counts = np.unique(np.concatenate(inner), return_counts=True)
    below = min(sum(unders), part.limit)
    ends = np.cumsum(np.concatenate([[sum(lows)], counts, [sum(highs)]]))
    lengths = np.diff(np.minimum(ends, part.limit - below), prepend=0)
    return _Runs(below, np.concatenate([[low], values, [high]]), lengths)


def _lowest(scores: Floats, count: int) -> Floats:
    """The `count` lowest of `scores`, or all, in any order."""
    return scores if count >= len(scores) else np.partition(scores, count)[:count]
