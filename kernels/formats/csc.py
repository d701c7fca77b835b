"""CSC, compressed sparse column: kept values, their rows, and where each column starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

from torch import Tensor

from .base import SparseMatrix, check_compressed, check_shape, shape_of
from .bits import narrow, stable_order, to_int32
from .entries import Entries, lines_of, starts


@dataclass(frozen=True, eq=False, repr=False)
class CSC(SparseMatrix):
    """The CSR of the transposed matrix: what the backward product with W^T reads.

    `ccol_indices` [in + 1] says where each column starts in `row_indices` and `values` (both 1-d),
    rows ascending in a column. Indices are as narrow as the matrix allows.
    """

    kind: ClassVar[str] = "csc"
    ccol_indices: Tensor
    row_indices: Tensor
    values: Tensor

    @cached_property
    def indices32(self) -> tuple[Tensor, Tensor]:
        """`ccol_indices` and `row_indices` as int32, which every product reads; made once.

        Raises ValueError from 2**31 entries or rows on.
        """
        ccol = to_int32(self.ccol_indices, len(self.values) + 1)
        return ccol, to_int32(self.row_indices, self.shape[0])

    def entries(self) -> Entries:
        columns = lines_of(self.ccol_indices, len(self.values))
        order = stable_order(self.row_indices, self.shape[0])
        rows = self.row_indices.long()[order]
        return Entries(self.shape, rows, columns[order], self.values[order])

    @classmethod
    def from_entries(cls, entries: Entries) -> Self:
        out, ins = entries.shape
        order = stable_order(narrow(entries.columns, ins - 1), ins)
        ccol = starts(entries.columns[order], ins)
        rows = narrow(entries.rows[order], out - 1)
        return cls(entries.shape, narrow(ccol, len(rows)), rows, entries.values[order])

    def parts(self) -> dict[str, Tensor]:
        return {
            "ccol_indices": self.ccol_indices,
            "row_indices": self.row_indices,
            "values": self.values,
        }

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        out, ins = shape_of(meta)
        ccol, rows, values = (parts[k] for k in ("ccol_indices", "row_indices", "values"))
        check_compressed("ccol_indices", ccol, "row_indices", rows, (ins, out))
        check_shape("values", values, tuple(rows.shape))
        return cls((out, ins), ccol, rows, values)
