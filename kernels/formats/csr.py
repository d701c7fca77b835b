"""CSR, compressed sparse row: kept values, their columns, and where each row starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from .base import SparseMatrix, check_indices, check_shape, shape_of
from .bits import narrow


@dataclass(frozen=True, eq=False)
class CSR(SparseMatrix):
    """The smallest for scattered zeros above some 90 % sparsity.

    `crow_indices` [out + 1] says where each row starts in `col_indices` and `values` (both 1-d),
    columns ascending in a row. Indices are as narrow as the matrix allows.
    """

    kind: ClassVar[str] = "csr"
    crow_indices: Tensor
    col_indices: Tensor
    values: Tensor

    @classmethod
    def from_dense(cls, matrix: Tensor) -> Self:
        out, ins = matrix.shape
        matrix = matrix.detach()
        rows, columns = torch.nonzero(matrix, as_tuple=True)
        ends = torch.bincount(rows, minlength=out).cumsum(0)
        crow = torch.cat([ends.new_zeros(1), ends])
        values = matrix[rows, columns]
        return cls((out, ins), narrow(crow, len(values)), narrow(columns, ins - 1), values)

    def to_dense(self) -> Tensor:
        out, ins = self.shape
        rows = torch.arange(out, device=self.values.device)
        rows = rows.repeat_interleave(self.crow_indices.long().diff())
        dense = self.values.new_zeros(out, ins)
        dense[rows, self.col_indices.long()] = self.values
        return dense

    def parts(self) -> dict[str, Tensor]:
        return {
            "crow_indices": self.crow_indices,
            "col_indices": self.col_indices,
            "values": self.values,
        }

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        out, ins = shape_of(meta)
        crow, columns, values = (parts[k] for k in ("crow_indices", "col_indices", "values"))
        check_shape("crow_indices", crow, (out + 1,))
        check_shape("values", values, tuple(columns.shape))
        check_indices("col_indices", columns, ins)
        wide = crow.long()
        if int(wide[0]) != 0 or int(wide[-1]) != len(values) or bool((wide.diff() < 0).any()):
            raise ValueError("crow_indices must rise from 0 to the number of values")
        return cls((out, ins), crow, columns, values)
