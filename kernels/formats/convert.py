"""From any format to any other, on the device of the matrix."""

from __future__ import annotations

from typing import Any, TypeVar

from .base import SparseMatrix
from .dense import Dense

F = TypeVar("F", bound=SparseMatrix)


def convert(matrix: SparseMatrix, to: type[F], **settings: Any) -> F:
    """Store `matrix` in the format `to`; `settings` are those of its ``from_entries``.

    Dense matrices are packed and unpacked directly. Everything else goes through the entries in row
    order with int64 indices (`Entries`), which is what COO holds: from and to COO, DOK and CSR that
    costs a widening of the indices and the row starts; to and from CSC a stable sort, from BSR and
    Hybrid a sort; to ELL, Hybrid and Grouped a scatter of the entries; to and from Bitmap and to
    BSR flags for each entry or block of the matrix. Only to N:M the dense matrix is made, which is
    at most M / N times as large as its values.

    An entry that is stored though it is zero stays one where a format tells it from filling: in
    COO, CSR, CSC, DOK, ELL, Hybrid and Bitmap. Raises Unfit if the entries do not fit `to`.
    """
    if type(matrix) is to and not settings:
        return matrix
    build: Any = to.from_dense if type(matrix) is Dense else to.from_entries
    stored: F = build(matrix.values if type(matrix) is Dense else matrix.entries(), **settings)
    return stored
