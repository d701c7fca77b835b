"""Where a sparse layer may get new weights: by the gradient (S3; RigL) or by chance (SET).

No gradient of the size of the layer is ever made: rows of it come in blocks, and only the best
places found so far are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ..compiled.jit import ready
from ..formats.csr import CSR
from ..formats.entries import Entries, lines_of
from ..selection.topology import evolve

Gradient = Callable[[Tensor], Tensor]
"""Rows of the gradient by W: for int64 numbers of outputs [k], floating [k, in]."""

_BLOCK, _PARTS = 1 << 20, 8
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
    rows = rows.sort().values
    best = _best(matrix, rows, count)
    at_once = max(1, min(_BLOCK // max(1, ins), out // _PARTS))
    for block in rows.split(at_once):
        best.add(gradient(block).float().contiguous())
    found, columns, values = best.found()
    return Entries(matrix.shape, found, columns, values.to(matrix.values.dtype))


class Best(Protocol):
    """The `count` values of largest size at places without a weight, among many; zeros left out.

    They come in blocks of rows. Of equal ones the first are taken. At most twice as many and a
    block are held: what is smaller than `count` others is not taken.
    """

    def add(self, block: Tensor) -> None:
        """Take the next rows, float32 [rows, in], not more than the first time; written to."""

    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows and columns, int64, and values, in row order."""


def _best(matrix: CSR, rows: Tensor, count: int) -> Best:
    if matrix.values.device.type == "cpu" and ready():
        from ..compiled import growth

        crow, columns = (part.contiguous() for part in matrix.indices32)
        return growth.Best(crow, columns, rows, count)
    return _Best(matrix, rows, count)


class _Best:
    """`Best` by torch's own operations."""

    def __init__(self, matrix: CSR, rows: Tensor, count: int) -> None:
        self._matrix, self._rows, self._count = matrix, rows, count
        self._floor, self._done = 0.0, 0
        self._values = torch.empty(0, device=matrix.values.device)
        self._keys = torch.empty(0, dtype=torch.int64, device=matrix.values.device)

    def add(self, block: Tensor) -> None:
        rows = self._rows[self._done : self._done + len(block)]
        self._done += len(block)
        _without_kept(block, self._matrix, rows)
        lines, columns = (block.abs() > self._floor).nonzero(as_tuple=True)
        self._values = torch.cat([self._values, block[lines, columns]])
        self._keys = torch.cat([self._keys, rows[lines] * block.shape[1] + columns])
        if len(self._values) > 2 * self._count:
            self._settle()

    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        self._settle()
        ins = max(1, self._matrix.shape[1])
        return self._keys // ins, self._keys % ins, self._values

    def _settle(self) -> None:
        """Keep only the largest."""
        if len(self._values) <= self._count:
            return
        at = self._values.abs().argsort(descending=True, stable=True)[: self._count].sort().values
        self._keys, self._values = self._keys[at], self._values[at]
        self._floor = float(self._values.abs().min()) if self._count else math.inf


def drawn(matrix: CSR, count: int, generator: torch.Generator) -> Entries:
    """`count` places without a weight, by chance, as zeros; each equally likely.

    Drawn from a generator of the CPU. Raises ValueError where there are not so many.
    """
    out, ins = matrix.shape
    free = out * ins - len(matrix.values)
    if count > free:
        raise ValueError(f"only {free} places are without a weight, not {count}")
    numbers = _distinct(free, count, generator).to(matrix.values.device)
    rows, columns = _free(matrix, numbers)
    return Entries(matrix.shape, rows, columns, matrix.values.new_zeros(count))


def _free(matrix: CSR, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns, int64, of the places without a weight of these ascending numbers."""
    ins = matrix.shape[1]
    if matrix.values.device.type == "cpu" and ready():
        from ..compiled import growth

        crow, columns = (part.contiguous() for part in matrix.indices32)
        return growth.free(crow, columns, ins, numbers)
    taken = lines_of(matrix.crow_indices, len(matrix.values)) * ins + matrix.col_indices.long()
    # As many free places lie before a weight as its key is larger than its number.
    before = taken - torch.arange(len(taken), device=taken.device)
    keys = numbers + torch.searchsorted(before, numbers, right=True)
    return keys // max(1, ins), keys % max(1, ins)


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


def _distinct(total: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` different numbers below `total`, ascending, each set of them equally likely."""
    if 2 * count > total:
        kept = torch.ones(total, dtype=torch.bool)
        kept[_distinct(total, total - count, generator)] = False
        return kept.nonzero().squeeze(1)

    def draw(missing: int) -> Tensor:
        # No number is more likely than another, so that no set is.
        return torch.randint(total, (missing,), generator=generator)

    if ready():
        from ..compiled import growth

        return growth.distinct(total, count, draw)
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < count:
        found = torch.cat([found, draw(count - len(found))]).unique()
    return found
