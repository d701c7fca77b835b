"""Where a sparse layer may get new weights: by the gradient (S3; RigL) or by chance (SET).

No gradient of the size of the layer is ever made: rows of it come in blocks, and only the best
places found so far are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..formats.csr import CSR
from ..formats.entries import Entries, lines_of
from ..selection.topology import evolve

Gradient = Callable[[Tensor], Tensor]
"""Rows of the gradient by W: for int64 numbers of outputs [k], floating [k, in]."""

_BLOCK, _PARTS = 1 << 18, 8
"""Entries of the gradient that are made at once, and into how many blocks of rows it is at least
cut; but for a single row."""


def costliest(costs: Tensor, matrix: CSR, count: int) -> Tensor:
    """The outputs, int64 [k], among which `count` new weights are searched: those of largest cost.

    `costs` [out] is the sum of |dL/dy_i| over the batch. k = sqrt(count), rounded up (S3, equation
    1), or more where these outputs have not so many places free.
    """
    order = costs.argsort(descending=True, stable=True)
    room = (matrix.shape[1] - matrix.crow_indices.long().diff()[order]).cumsum(0)
    enough = int((room < count).sum()) + 1
    return order[: max(enough, math.ceil(math.sqrt(count)))]


def largest(matrix: CSR, count: int, gradient: Gradient, rows: Tensor) -> Entries:
    """The `count` places in `rows` that have no weight and the largest gradients, with these.

    Fewer where there are no more places whose gradient is not zero. `rows` are int64, none twice.
    """
    out, ins = matrix.shape
    found = _Best(count, matrix.values.device)
    at_once = max(1, min(_BLOCK // max(1, ins), out // _PARTS))
    for block in rows.split(at_once):
        part = gradient(block).float()
        _without_kept(part, matrix, block)
        found.add(part.reshape(-1))
    found.settle()
    keys = rows.index_select(0, found.places // ins) * ins + found.places % ins
    return _entries(matrix, keys, found.values)


class _Best:
    """The `count` values of largest size among many that come in pieces, zeros left out.

    At most twice as many and a piece are held: what is smaller than `count` others is not taken.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self._count = count
        self._floor, self._before = 0.0, 0
        self.values = torch.empty(0, device=device)
        self.places = torch.empty(0, dtype=torch.int64, device=device)

    def add(self, values: Tensor) -> None:
        """Take the next piece, 1-d; `places` count on from the pieces before it."""
        at = (values.abs() > self._floor).nonzero().squeeze(1)
        self.values = torch.cat([self.values, values.index_select(0, at)])
        self.places = torch.cat([self.places, at + self._before])
        self._before += len(values)
        if len(self.values) > 2 * self._count:
            self.settle()

    def settle(self) -> None:
        """Keep only the largest."""
        if len(self.values) <= self._count:
            return
        at = self.values.abs().topk(self._count, sorted=False).indices
        self.values, self.places = self.values.index_select(0, at), self.places.index_select(0, at)
        self._floor = float(self.values.abs().min()) if self._count else math.inf


def drawn(matrix: CSR, count: int, generator: torch.Generator) -> Entries:
    """`count` places without a weight, by chance, as zeros; each equally likely.

    Drawn from a generator of the CPU. Raises ValueError where there are not so many.
    """
    out, ins = matrix.shape
    free = out * ins - len(matrix.values)
    if count > free:
        raise ValueError(f"only {free} places are without a weight, not {count}")
    ranks = _distinct(free, count, generator).to(matrix.values.device)
    taken = lines_of(matrix.crow_indices, len(matrix.values)) * ins + matrix.col_indices.long()
    # As many free places lie before a weight as its key is larger than its number.
    before = taken - torch.arange(len(taken), device=taken.device)
    keys = ranks + torch.searchsorted(before, ranks, right=True)
    return _entries(matrix, keys, torch.zeros(count, device=keys.device))


def completed(
    found: Entries | None, matrix: CSR, count: int, generator: torch.Generator
) -> Entries:
    """`found`, which is for places of `matrix` without a weight, with more by chance to `count`."""
    if found is None:
        return drawn(matrix, count, generator)
    more = drawn(evolve(matrix, 0.0, found).matrix, count - len(found.values), generator)
    parts = (
        torch.cat([getattr(found, name), getattr(more, name)])
        for name in ("rows", "columns", "values")
    )
    return Entries.unordered(matrix.shape, *parts)


def _without_kept(part: Tensor, matrix: CSR, rows: Tensor) -> None:
    """Set the gradient [len(rows), in] to zero where there is a weight."""
    crow = matrix.crow_indices.long()
    lengths = crow.diff()[rows]
    starts = lengths.cumsum(0) - lengths
    local = torch.arange(len(rows), device=rows.device).repeat_interleave(lengths)
    at = torch.arange(len(local), device=rows.device) + (crow[rows] - starts)[local]
    part[local, matrix.col_indices[at].long()] = 0


def _entries(matrix: CSR, keys: Tensor, values: Tensor) -> Entries:
    keys, order = keys.sort()
    ins = max(1, matrix.shape[1])
    return Entries(matrix.shape, keys // ins, keys % ins, values[order].to(matrix.values.dtype))


def _distinct(total: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` different numbers below `total`, ascending, each set of them equally likely."""
    if 2 * count >= total:
        return torch.randperm(total, generator=generator)[:count].sort().values
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < count:
        more = torch.randint(total, (count + count // 2 + 8,), generator=generator)
        found = torch.cat([found, more]).unique()
    chosen = torch.randperm(len(found), generator=generator)[:count]
    return found[chosen].sort().values
