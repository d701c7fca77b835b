"""The hub between formats: the entries of a matrix one by one, in order, with plain indices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from .pack import csr_arrays_cuda, serves


@dataclass(frozen=True, eq=False)
class Entries:
    """Some entries of a matrix of `shape` (out, in), row by row and ascending in a row, none twice.

    `rows` and `columns` are int64, `values` of any floating dtype; all 1-d, contiguous, of one
    length, on one device. An entry may be zero: it is then stored like the others.
    """

    shape: tuple[int, int]
    rows: Tensor
    columns: Tensor
    values: Tensor

    @classmethod
    def of(cls, matrix: Tensor, mask: Tensor | None = None) -> Self:
        """The entries of a [out, in] matrix where the bool `mask` is True, or the non-zeros."""
        out, ins = matrix.shape
        if serves(matrix):
            crow, narrow_columns, values = csr_arrays_cuda(matrix, mask)
            rows = lines_of(crow, len(values))
            return cls((out, ins), rows, narrow_columns.long(), values)
        matrix = matrix.detach()
        kept = matrix != 0 if mask is None else mask
        if kept.shape != matrix.shape:
            raise ValueError(f"a mask of {tuple(kept.shape)} does not fit {tuple(matrix.shape)}")
        rows, columns = torch.nonzero(kept, as_tuple=True)
        return cls((out, ins), rows.contiguous(), columns.contiguous(), matrix[rows, columns])

    @classmethod
    def unordered(
        cls, shape: tuple[int, int], rows: Tensor, columns: Tensor, values: Tensor
    ) -> Self:
        """Entries that lie in any order, none twice, brought into order by a sort."""
        order = (rows * shape[1] + columns).argsort()
        return cls(shape, rows[order], columns[order], values[order])

    def to_dense(self) -> Tensor:
        """The matrix with these entries, zero elsewhere."""
        dense = self.values.new_zeros(self.shape)
        dense[self.rows, self.columns] = self.values
        return dense

    def mask(self) -> Tensor:
        """Bool [out, in], True at the entries."""
        kept = torch.zeros(self.shape, dtype=torch.bool, device=self.values.device)
        kept[self.rows, self.columns] = True
        return kept

    def where(self, flags: Tensor) -> Self:
        """Those entries whose flag is True."""
        rows, columns, values = (part[flags] for part in (self.rows, self.columns, self.values))
        return type(self)(self.shape, rows, columns, values)

    @cached_property
    def row_starts(self) -> Tensor:
        """Where each row starts among the entries, and their number: int64 [out + 1]."""
        return starts(self.rows, self.shape[0])

    @cached_property
    def places(self) -> Tensor:
        """The place of each entry in its row, from 0, int64."""
        count = torch.arange(len(self.rows), device=self.rows.device)
        return count - self.row_starts[self.rows]


def starts(lines: Tensor, count: int) -> Tensor:
    """Where each of `count` lines starts in the ascending int64 `lines`: int64 [count + 1]."""
    return torch.searchsorted(lines, torch.arange(count + 1, device=lines.device))


def lines_of(starts: Tensor, count: int) -> Tensor:
    """Inverse of `starts`: for each of the `count` entries its line, int64."""
    lengths = starts.long().diff()
    lines = torch.arange(len(lengths), device=starts.device)
    return lines.repeat_interleave(lengths, output_size=count)
