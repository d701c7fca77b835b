"""The gradients of a linear layer whose entries lie anywhere, whatever form their values are in.

By x: a product with W^T, in CSR. By the values: outputs times inputs, only where there are entries.
Neither the matrix nor its gradient is ever made whole: 2 * batch * entries operations each, and
memory for the entries, x and y.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..compiled.jit import ready
from ..formats.bits import stable_order
from ..formats.entries import lines_of, starts
from .csr_spmm import csr_linear, row_order
from .sddmm import sddmm


class Scattered(NamedTuple):
    """Where the entries of a matrix W[out, in] lie, by rows and by columns.

    `row_starts` int32 [out + 1] and `row_columns` int32 [entries] are its structure as in CSR,
    `row_places` int64 [entries] says where each entry's value is among those of the form,
    flattened, `row_order` int32 [out] puts the longest rows first; the others are the same of W^T.
    Values without an entry only fill a form up.
    """

    row_starts: Tensor
    row_columns: Tensor
    row_places: Tensor
    row_order: Tensor
    column_starts: Tensor
    column_rows: Tensor
    column_places: Tensor
    column_order: Tensor

    @classmethod
    def of(cls, rows: Tensor, columns: Tensor, places: Tensor, shape: tuple[int, int]) -> Self:
        """From int64 rows, ascending, and columns of the entries, and the places of their values.

        An entry may be there twice.
        """
        row_starts = starts(rows, shape[0]).to(torch.int32)
        across, down, within = transposed(row_starts, columns, shape[1])
        by_rows = row_starts, columns.to(torch.int32), places, row_order(row_starts)
        return cls(*by_rows, across, down, places[within], row_order(across))

    @classmethod
    def among(cls, indices: Sequence[Tensor]) -> Self | None:
        """The structure at the end of a form's index tensors, if it was put there."""
        count = len(cls._fields)
        return cls(*indices[-count:]) if len(indices) > count else None


def transposed(crow: Tensor, columns: Tensor, ins: int) -> tuple[Tensor, Tensor, Tensor]:
    """The CSR structure of W^T, and where each of its entries lies among those of W, all int32."""
    if columns.device.type == "cpu" and columns.dtype == crow.dtype == torch.int32 and ready():
        from ..compiled.topology import turned

        return turned(crow.contiguous(), columns.contiguous(), ins)
    places = stable_order(columns, ins)
    rows = lines_of(crow, len(columns)).index_select(0, places).to(torch.int32)
    counts = torch.bincount(columns, minlength=ins)
    return pad(counts.cumsum(0), (1, 0)).to(torch.int32), rows, places.to(torch.int32)


def scattered_linear(where: Scattered, values: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    """The linear layer x W^T + bias, as `csr_linear`; `values` in any shape that `where` means."""
    entries = values.flatten()[where.row_places]
    structure = where.row_starts, where.row_columns
    return csr_linear(*structure, entries, x, bias=bias, order=where.row_order)


def scattered_linear_backward(
    where: Scattered, values: Tensor, x: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients by x [batch, in] and by `values`, from `grad` [batch, out].

    That by values which only fill up is zero. Dtypes as in `csr_linear` and `sddmm`.
    """
    flat = values.flatten()
    entries = flat[where.column_places]
    across = where.column_starts, where.column_rows
    by_x = csr_linear(*across, entries, grad, order=where.column_order)
    structure = where.row_starts, where.row_columns
    sampled = sddmm(*structure, grad.t(), x.t(), order=where.row_order)
    by_values = torch.zeros_like(flat).index_copy_(0, where.row_places, sampled)
    return by_x, by_values.view(values.shape)
