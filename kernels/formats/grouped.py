"""Grouped: whole rows and whole columns gone, a smaller dense matrix left (S1, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from .base import SparseMatrix, check_indices, check_shape, shape_of
from .bits import narrow


@dataclass(frozen=True, eq=False)
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
            height = len(rows)
        if columns is not None:
            check_indices("columns", columns, ins)
            width = len(columns)
        check_shape("values", values, (height, width))
        return cls((out, ins), rows, columns, values)


def _index(kept: Tensor, count: int) -> Tensor | None:
    """The kept indices in a narrow type, or None where all of `count` are kept."""
    return None if len(kept) == count else narrow(kept, count - 1)
