"""Grouped: whole rows and whole columns gone, a smaller dense matrix left (S1, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from .base import SparseMatrix, check_indices, check_rising, check_shape, shape_of
from .bits import narrow, to_int32
from .entries import Entries


@dataclass(frozen=True, eq=False, repr=False)
class Grouped(SparseMatrix):
    """The smallest where input positions or outputs went as a whole; its product stays dense.

    `rows` and `columns` are the indices that are kept, ascending, 1-d, and None where all are.
    `values` is the matrix between them, zeros among them too. Fits every matrix.
    """

    kind: ClassVar[str] = "grouped"
    rows: Tensor | None
    columns: Tensor | None
    values: Tensor

    @classmethod
    def from_dense(cls, matrix: Tensor) -> Self:
        out, ins = matrix.shape
        matrix = matrix.detach()
        kept = matrix != 0
        rows = torch.nonzero(kept.any(dim=1)).flatten()
        columns = torch.nonzero(kept.any(dim=0)).flatten()
        matrix = torch.where(kept, matrix, 0)  # without the signs of zeros
        values = matrix if len(rows) == out else matrix.index_select(0, rows)
        values = values if len(columns) == ins else values.index_select(1, columns)
        return cls((out, ins), _index(rows, out), _index(columns, ins), values.contiguous())

    def to_dense(self) -> Tensor:
        out, ins = self.shape
        values = self.values
        wide = values.new_zeros(len(values), ins)
        columns = self.columns.long() if self.columns is not None else slice(None)
        wide[:, columns] = values
        if self.rows is None:
            return wide
        dense = values.new_zeros(out, ins)
        dense[self.rows.long()] = wide
        return dense

    @cached_property
    def indices32(self) -> tuple[Tensor | None, Tensor | None]:
        """`rows` and `columns` as int32 for products, None where all are kept; made once."""
        (out, ins), rows, columns = self.shape, self.rows, self.columns
        return (
            None if rows is None else to_int32(rows, out),
            None if columns is None else to_int32(columns, ins),
        )

    def entries(self) -> Entries:
        """The non-zeros: a zero in what is kept belongs to the rest, it is no entry."""
        rows, columns = torch.nonzero(self.values, as_tuple=True)
        values = self.values[rows, columns]
        rows = rows.contiguous() if self.rows is None else self.rows.long()[rows]
        columns = columns.contiguous() if self.columns is None else self.columns.long()[columns]
        return Entries(self.shape, rows, columns, values)

    @classmethod
    def from_entries(cls, entries: Entries) -> Self:
        """See `SparseMatrix.from_entries`; a row or column is kept if it has an entry."""
        out, ins = entries.shape
        device = entries.values.device
        lines, places = [], []
        for indices, count in ((entries.rows, out), (entries.columns, ins)):
            flags = torch.zeros(count, dtype=torch.bool, device=device)
            flags[indices] = True
            lines.append(torch.nonzero(flags).flatten())
            places.append((flags.cumsum(0) - 1)[indices])
        values = entries.values.new_zeros(len(lines[0]), len(lines[1]))
        values[places[0], places[1]] = entries.values
        return cls(entries.shape, _index(lines[0], out), _index(lines[1], ins), values)

    def parts(self) -> dict[str, Tensor]:
        named = {"rows": self.rows, "columns": self.columns, "values": self.values}
        return {name: part for name, part in named.items() if part is not None}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        out, ins = shape_of(meta)
        rows, columns, values = parts.get("rows"), parts.get("columns"), parts["values"]
        height, width = out, ins
        if rows is not None:
            check_indices("rows", rows, out)
            check_rising("rows", rows.long())
            height = len(rows)
        if columns is not None:
            check_indices("columns", columns, ins)
            check_rising("columns", columns.long())
            width = len(columns)
        check_shape("values", values, (height, width))
        return cls((out, ins), rows, columns, values)


def _index(kept: Tensor, count: int) -> Tensor | None:
    """The kept indices in a narrow type, or None where all of `count` are kept."""
    return None if len(kept) == count else narrow(kept, count - 1)
