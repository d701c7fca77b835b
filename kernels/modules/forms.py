"""The forms in which a matrix W[out, in] can be multiplied: how each is packed and what runs.

A form is its values, which can learn, some index tensors, and a few integers. Everything else, the
operators and the modules, is made from this table; a new form is one more line of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..formats.bsr import BSR
from ..formats.csr import CSR
from ..products.bsr import bsr_linear, sampled_blocks
from ..products.cpu_sparse import CpuSparse
from ..products.csr_spmm import csr_linear, row_order
from ..products.grouped.columns import pack_columns
from ..products.grouped.linear import grouped_linear, grouped_linear_backward
from ..products.scattered import transposed
from ..products.sddmm import sddmm
from ..products.two_four import TwoFour, two_four_linear
from .form import Form, Indices, Packed, Sizes
from .scattered_forms import SCATTERED

_TRANSPOSES = ("transposed_crow", "transposed_columns", "transposed_places")
_ORDER = "transposed_order"


def _pack_csr(matrix: Tensor, mask: Tensor) -> Packed:
    return packed_csr(CSR.from_mask(matrix, mask))


def packed_csr(matrix: CSR) -> Packed:
    """A matrix that is in CSR already; its values are not copied."""
    crow, columns = matrix.indices32
    indices = {"crow": crow, "columns": columns, "order": row_order(crow)}
    out, ins = matrix.shape
    density = len(matrix.values) / max(1, out * ins)
    return Packed(matrix.values, indices, matrix.shape, density)


def transposes_csr(packed: Packed) -> dict[str, Tensor]:
    """The indices of W^T, which only the backward pass reads."""
    crow, columns, _ = packed.indices.values()
    across = _across(crow, columns, packed.sizes[1])
    return dict(zip((*_TRANSPOSES, _ORDER), across, strict=True))


def _across(crow: Tensor, columns: Tensor, ins: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    starts, rows, places = transposed(crow, columns, ins)
    return starts, rows, places, row_order(starts)


def _csr(x: Tensor, values: Tensor, bias: Tensor | None, indices: Indices, _: Sizes) -> Tensor:
    crow, columns, order, *_transposes = indices
    return csr_linear(crow, columns, values, x, bias=bias, order=order)


def _csr_backward(
    grad: Tensor, x: Tensor, values: Tensor, indices: Indices, sizes: Sizes
) -> tuple[Tensor, Tensor]:
    """A product with W^T; and outputs times inputs, only where W has entries."""
    crow, columns, order, *across = indices
    starts, rows, places, longest_first = across or _across(crow, columns, sizes[1])
    by_x = csr_linear(starts, rows, values[places], grad, order=longest_first)
    return by_x, sddmm(crow, columns, grad.t(), x.t(), order=order)


def _csr_on_cpu(values: Tensor, indices: Indices, sizes: Sizes) -> CpuSparse:
    return CpuSparse.from_csr(indices[0], indices[1], values, (sizes[0], sizes[1]))


def _pack_bsr(matrix: Tensor, mask: Tensor, block: int = 16) -> Packed:
    stored = BSR.from_mask(matrix, mask, block=(block, block))
    crow, columns = stored.indices32
    return Packed(stored.values, {"crow": crow, "columns": columns}, tuple(matrix.shape))


def _transpose_bsr(packed: Packed) -> dict[str, Tensor]:
    crow, columns = packed.indices.values()
    across = -(-packed.sizes[1] // packed.values.shape[2])
    return dict(zip(_TRANSPOSES, transposed(crow, columns, across), strict=True))


def _bsr(x: Tensor, values: Tensor, bias: Tensor | None, indices: Indices, sizes: Sizes) -> Tensor:
    return bsr_linear(indices[0], indices[1], values, x, bias, sizes[0])


def _bsr_backward(
    grad: Tensor, x: Tensor, values: Tensor, indices: Indices, sizes: Sizes
) -> tuple[Tensor, Tensor]:
    """A product with the turned blocks of W^T; and outputs times inputs, only in W's blocks."""
    crow, columns, *across = indices
    height, width = values.shape[1:]
    starts, rows, places = across or transposed(crow, columns, -(-sizes[1] // width))
    turned = values[places].transpose(1, 2).contiguous()
    by_x = bsr_linear(starts, rows, turned, grad, None, sizes[1])
    return by_x, sampled_blocks(crow, columns, (height, width), grad.t(), x.t())


def _bsr_on_cpu(values: Tensor, indices: Indices, sizes: Sizes) -> CpuSparse:
    return CpuSparse.from_bsr(indices[0], indices[1], values, (sizes[0], sizes[1]))


def _pack_two_four(matrix: Tensor, mask: Tensor) -> Packed:
    stored = TwoFour.from_dense(torch.where(mask, matrix, 0))
    return Packed(stored.packed, {}, stored.shape)


def _two_four(x: Tensor, values: Tensor, bias: Tensor | None, _: Indices, sizes: Sizes) -> Tensor:
    return two_four_linear(TwoFour((sizes[0], sizes[1]), values.detach()), x, bias)


def _two_four_backward(
    grad: Tensor, x: Tensor, values: Tensor, _: Indices, sizes: Sizes
) -> tuple[Tensor, Tensor]:
    """By the dense W, as W^T is not 2:4; no other way has been measured.

    The library keeps its packing to itself: its product with the unit matrix is W^T.
    """
    unit = torch.eye(sizes[1], dtype=x.dtype, device=x.device)
    matrix = two_four_linear(TwoFour((sizes[0], sizes[1]), values.detach()), unit)
    return grad @ matrix.t(), torch.zeros_like(values)


def _pack_grouped(matrix: Tensor, mask: Tensor) -> Packed:
    values, kept = pack_columns(torch.where(mask, matrix, 0), mask.any(dim=0))
    return Packed(values, {"kept": kept}, tuple(matrix.shape))


def _grouped(
    x: Tensor, values: Tensor, bias: Tensor | None, indices: Indices, sizes: Sizes
) -> Tensor:
    tf32 = x.is_cuda and torch.backends.cuda.matmul.fp32_precision == "tf32"
    flat = x.reshape(-1, sizes[1])  # the CPU gathers from a matrix ten times as fast
    y = grouped_linear(flat, values, indices[0], bias, tf32=tf32)
    return y.view(*x.shape[:-1], sizes[0])


def _grouped_backward(
    grad: Tensor, x: Tensor, values: Tensor, indices: Indices, _: Sizes
) -> tuple[Tensor, Tensor]:
    return grouped_linear_backward(grad, x, values, indices[0])


FORMS: dict[str, Form] = {
    "csr": Form(_pack_csr, _csr, _csr_backward, _csr_on_cpu, transposes=transposes_csr),
    "bsr": Form(_pack_bsr, _bsr, _bsr_backward, _bsr_on_cpu, transposes=_transpose_bsr),
    **SCATTERED,
    "two_four": Form(_pack_two_four, _two_four, _two_four_backward, learns=False),
    "grouped": Form(_pack_grouped, _grouped, _grouped_backward),
}
"""The forms by the name of their storage format."""


def pack(form: str, matrix: Tensor, mask: Tensor | None = None, **settings: Any) -> Packed:
    """Pack a floating matrix [out, in] in one of `FORMS`, its non-zeros or what `mask` keeps.

    `mask` is bool [out, in]; the settings are ``block`` of "bsr", ``n`` and ``m`` of "nm". Raises
    ValueError for another form or mask, Unfit where the zeros do not fit the form, Unsupported
    where the vendor's library does not take the matrix ("two_four").
    """
    if form not in FORMS:
        raise ValueError(f"there is no form {form!r}; there are {', '.join(FORMS)}")
    if mask is None:
        mask = matrix != 0
    elif mask.dtype != torch.bool or mask.shape != matrix.shape:
        expected = list(matrix.shape)
        raise ValueError(f"the mask must be bool {expected}, not {mask.dtype} {list(mask.shape)}")
    packed = FORMS[form].pack(matrix.detach(), mask.to(matrix.device), **settings)
    return replace(packed, density=int(mask.count_nonzero()) / max(1, mask.numel()))
