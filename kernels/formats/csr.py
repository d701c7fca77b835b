"""CSR, compressed sparse row: kept values, their columns, and where each row starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

from torch import Tensor

from .base import SparseMatrix, check_compressed, check_shape, shape_of
from .bits import narrow, stable_order, to_int32
from .entries import Entries, lines_of
from .pack import csr_arrays_cuda, serves


@dataclass(frozen=True, eq=False, repr=False)
class CSR(SparseMatrix):
    """The smallest for scattered zeros above some 90 % sparsity.

    `crow_indices` [out + 1] says where each row starts in `col_indices` and `values` (both 1-d),
    columns ascending in a row. Indices are as narrow as the matrix allows.
    """

    kind: ClassVar[str] = "csr"
    crow_indices: Tensor
    col_indices: Tensor
    values: Tensor

    @cached_property
    def indices32(self) -> tuple[Tensor, Tensor]:
        """`crow_indices` and `col_indices` as int32, which every product reads; made once.

        Raises ValueError from 2**31 entries or columns on.
        """
        crow = to_int32(self.crow_indices, len(self.values) + 1)
        return crow, to_int32(self.col_indices, self.shape[1])

    @cached_property
    def csc_order(self) -> Tensor:
        """int64 [entries]: ``csr.values[csr.csc_order]`` are the values in the order of `CSC`.

        The structure is sorted once, and values that change while it stays (training) are only
        gathered.
        """
        return stable_order(self.col_indices, self.shape[1])

    def entries(self) -> Entries:
        rows = lines_of(self.crow_indices, len(self.values))
        return Entries(self.shape, rows, self.col_indices.long(), self.values)

    @classmethod
    def from_dense(cls, matrix: Tensor) -> Self:
        """See `SparseMatrix.from_dense`; fits every matrix."""
        if serves(matrix):
            return cls((matrix.shape[0], matrix.shape[1]), *csr_arrays_cuda(matrix))
        return super().from_dense(matrix)

    @classmethod
    def from_mask(cls, matrix: Tensor, mask: Tensor, **settings: Any) -> Self:
        """See `SparseMatrix.from_mask`."""
        if serves(matrix) and not settings:
            return cls((matrix.shape[0], matrix.shape[1]), *csr_arrays_cuda(matrix, mask))
        return super().from_mask(matrix, mask, **settings)

    @classmethod
    def from_entries(cls, entries: Entries) -> Self:
        crow = narrow(entries.row_starts, len(entries.values))
        columns = narrow(entries.columns, entries.shape[1] - 1)
        return cls(entries.shape, crow, columns, entries.values)

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
        check_compressed("crow_indices", crow, "col_indices", columns, (out, ins))
        check_shape("values", values, tuple(columns.shape))
        return cls((out, ins), crow, columns, values)
