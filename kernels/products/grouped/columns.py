"""Whole columns of W[out, in] gone: its kept values and where they were (S1, algorithms 1 and 2).

From a mask over the columns, from zeros found in the weight, or from the stored format; all give
`values` [out, kept], rows on multiples of 16 bytes, and `kept`, int32 [kept], ascending.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...formats.grouped import Grouped
from .tiles import aligned_rows


def pack_columns(matrix: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Take the columns of `matrix` [out, in] that `mask`, bool [in], keeps.

    Without a mask: those with any entry that is not zero. Raises ValueError for another mask.
    """
    if mask is None:
        mask = (matrix != 0).any(dim=0)
    elif mask.dtype != torch.bool or tuple(mask.shape) != (matrix.shape[1],):
        raise ValueError(
            f"the mask must be bool [{matrix.shape[1]}], not {mask.dtype} {list(mask.shape)}"
        )
    kept = torch.nonzero(mask.to(matrix.device)).flatten()
    return aligned_rows(matrix.detach().index_select(1, kept)), kept.to(torch.int32)


def unpack_format(grouped: Grouped) -> tuple[Tensor, Tensor]:
    """The same from the stored format; outputs that are gone there are rows of zeros here."""
    out, ins = grouped.shape
    values, columns = grouped.values, grouped.columns
    if columns is None:
        columns = torch.arange(ins, device=values.device)
    if grouped.rows is not None:
        values = values.new_zeros(out, len(columns)).index_copy_(0, grouped.rows.long(), values)
    return aligned_rows(values), columns.to(torch.int32)
