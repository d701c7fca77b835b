"""Choosing the entries to prune: by rank, by size, and N of every M. Ties fall to lower indices.

Selection is exact and costs little more than reading the scores, on the CPU (see `threshold`) and
on a GPU (see `radix_select`), where `torch.topk` and `torch.kthvalue` cost many times that.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from math import inf

import numpy as np
import torch
from torch import Tensor

from ..compiled.jit import ready
from .nm_mask import keep_n_of_m_cuda, serves
from .radix_select import lowest_of_all

_LONGEST_COMPARED = 64
# Entries for which compiled loops are loaded: a third of a second, once in a process.
_WORTH_LOADING = 1 << 12
_SMALL_STRETCH = 1 << 18


class Ranking:
    """Answers `lowest` again and again for the same scores, each time cheaper.

    A slider asks for the lowest k of the same scores for many k. A copy of them is halved by its
    median, the half with the answer again, and so on (Hoare's quickselect with its pivots kept), so
    that later answers find most of the way done. `scores` is a floating CPU tensor of any shape
    without NaN that must not change while this lives.
    """

    def __init__(self, scores: Tensor) -> None:
        self._shape = scores.shape
        self._flat = scores.detach().float().reshape(-1).numpy()
        self._ordered: np.ndarray | None = None
        self._pivots: list[int] = []

    @property
    def count(self) -> int:
        """How many entries there are to choose from."""
        return int(self._flat.size)

    @property
    def nbytes(self) -> int:
        """Bytes held, the ordered copy included."""
        return 2 * int(self._flat.nbytes)

    def lowest(self, count: int) -> Tensor:
        """Return a bool tensor, True at the `count` lowest scores. Ties: lower flat index first."""
        total = self._flat.size
        if not 0 <= count <= total:
            raise ValueError(f"cannot choose {count} of {total} entries")
        if count in (0, total):
            return torch.full(self._shape, count > 0, dtype=torch.bool)
        threshold = self._at(count - 1)
        chosen = self._flat <= threshold
        surplus = int(np.count_nonzero(chosen)) - count
        if surplus:
            chosen[np.flatnonzero(self._flat == threshold)[-surplus:]] = False
        return torch.from_numpy(chosen).view(self._shape)

    def _at(self, place: int) -> np.float32:
        """The value at `place` (from 0) in ascending order."""
        if self._ordered is None:
            self._ordered = self._flat.copy()
        after = bisect_left(self._pivots, place)
        if after == len(self._pivots) or self._pivots[after] != place:
            low = self._pivots[after - 1] + 1 if after else 0
            high = self._pivots[after] if after < len(self._pivots) else self._ordered.size
            pivot = -1
            while pivot != place:
                pivot = (low + high) // 2 if high - low > _SMALL_STRETCH else place
                self._ordered[low:high].partition(pivot - low)
                insort(self._pivots, pivot)
                low, high = (low, pivot) if place < pivot else (pivot + 1, high)
        value: np.float32 = self._ordered[place]
        return value


def lowest(scores: Tensor, count: int) -> Tensor:
    """Return a bool tensor, True at the `count` lowest scores. Ties: lower flat index first.

    `scores` is floating, any shape, without NaN. O(n). Raises ValueError for a `count` that there
    is not.
    """
    return lowest_of_all([scores], count)[0]


class SizedRanking:
    """Answers `lowest_by_size` again and again for the same scores and sizes."""

    def __init__(self, scores: Tensor, sizes: Tensor) -> None:
        self._shape = scores.shape
        self._order = torch.argsort(scores.detach().float().reshape(-1), stable=True)
        totals = sizes.to(scores.device).reshape(-1)[self._order].cumsum(0)
        self._reached = torch.cat([totals.new_zeros(1), totals])

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._order.nbytes + self._reached.nbytes

    def lowest(self, budget: float) -> Tensor:
        """Return a bool tensor, True at the lowest scores whose sizes add up to about `budget`."""
        count = int((self._reached - budget).abs().argmin())
        chosen = torch.zeros(len(self._order), dtype=torch.bool, device=self._order.device)
        chosen[self._order[:count]] = True
        return chosen.view(self._shape)


def lowest_by_size(scores: Tensor, sizes: Tensor, budget: float) -> Tensor:
    """Like `lowest`, for units of unequal size: take the lowest until `budget` entries are chosen.

    Stops where the total is nearest to `budget`, so that it is missed by at most half a unit.
    """
    return SizedRanking(scores, sizes).lowest(budget)


def keep_n_of_m(scores: Tensor, n: int, m: int, step: int = 1) -> Tensor:
    """Return the bool mask that keeps the `n` highest of every run of `m` entries of a row.

    `scores` is [rows, columns]. The entries of a run are `step` columns apart: neighbours with 1,
    with a kernel's number of taps those of neighbouring channels at one tap. A last run shorter
    than `m` is padded with entries that are never kept. Among ties the lower index is pruned first,
    as everywhere here.
    """
    if serves(scores, m):
        return keep_n_of_m_cuda(scores, n, m, step)
    compares = scores.is_cpu and 1 < m <= _LONGEST_COMPARED
    if compares and scores.numel() >= _WORTH_LOADING and ready():
        from ..compiled import n_of_m

        return n_of_m.keep_n_of_m(scores, n, m, step)
    columns = scores.shape[1]
    padded = scores.detach().float()
    if columns % (m * step):
        padded = torch.nn.functional.pad(padded, (0, -columns % (m * step)), value=-inf)
    runs = padded.reshape(-1, m, step)
    order = torch.argsort(runs, dim=1, stable=True)
    kept = torch.zeros_like(runs, dtype=torch.bool).scatter_(1, order[:, m - n :], True)
    return kept.view(padded.shape)[:, :columns].contiguous()
