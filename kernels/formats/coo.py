"""COO, coordinates: the row, the column and the value of each kept entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

from torch import Tensor

from .base import SparseMatrix, check_indices, check_rising, check_shape, shape_of
from .bits import narrow, to_int32
from .entries import Entries


@dataclass(frozen=True, eq=False, repr=False)
class COO(SparseMatrix):
    """The smallest where most rows are empty; the form that other programs read.

    `rows`, `columns` and `values` are 1-d, row by row and ascending in a row, none twice. Indices
    are as narrow as the matrix allows.
    """

    kind: ClassVar[str] = "coo"
    rows: Tensor
    columns: Tensor
    values: Tensor

    @cached_property
    def indices32(self) -> tuple[Tensor, Tensor]:
        """Rows and columns as int32, for products. ValueError from 2**31 lines on."""
        out, ins = self.shape
        return to_int32(self.rows, out), to_int32(self.columns, ins)

    def entries(self) -> Entries:
        return Entries(self.shape, self.rows.long(), self.columns.long(), self.values)

    @classmethod
    def from_entries(cls, entries: Entries) -> Self:
        out, ins = entries.shape
        rows, columns = narrow(entries.rows, out - 1), narrow(entries.columns, ins - 1)
        return cls(entries.shape, rows, columns, entries.values)

    def parts(self) -> dict[str, Tensor]:
        return {"rows": self.rows, "columns": self.columns, "values": self.values}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        out, ins = shape_of(meta)
        rows, columns, values = (parts[k] for k in ("rows", "columns", "values"))
        check_indices("rows", rows, out)
        check_indices("columns", columns, ins)
        check_shape("columns", columns, tuple(rows.shape))
        check_shape("values", values, tuple(rows.shape))
        check_rising("rows and columns", rows.long() * ins + columns.long())
        return cls((out, ins), rows, columns, values)
