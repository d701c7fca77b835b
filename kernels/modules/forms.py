"""The forms in which a matrix W[out, in] can be multiplied: how each is packed and what runs.

A form is its values, which can learn, some index tensors, and a few integers. Everything else, the
operators and the modules, is made from this table; a new form is one more line of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..formats.bits import stable_order
from ..formats.bsr import BSR
from ..formats.ell import ELL
from ..formats.entries import lines_of
from ..formats.nm import NM
from ..formats.pack import csr_arrays
from ..products.bitmap import bitmap_linear, bitmap_linear_backward
from ..products.bitmap_tiles import BitmapTiles
from ..products.cpu_sparse import CpuSparse, sparse_linear_cpu
from ..products.csr_spmm import csr_linear, row_order
from ..products.ell import ell_linear, ell_linear_backward
from ..products.grouped.columns import pack_columns
from ..products.grouped.linear import grouped_linear, grouped_linear_backward
from ..products.nm import nm_columns, nm_linear, nm_linear_backward
from ..products.sddmm import sddmm
from ..products.two_four import TwoFour, two_four_linear

Indices = Sequence[Tensor]
Sizes = Sequence[int]


@dataclass(frozen=True, eq=False)
class Packed:
    """A matrix in a form: `sizes` are out and in, then whatever integers the form has.

    `density` is the share of the matrix that is kept, without what a form stores beside it.
    """

    values: Tensor
    indices: dict[str, Tensor]
    sizes: tuple[int, ...]
    density: float = 1.0


@dataclass(frozen=True)
class Form:
    """One form of the linear layer.

    `pack` takes [out, in] values, the bool mask of what is kept, and the form's settings.
    `multiply` is the layer: x [..., in], the values, the bias or None, indices, sizes. `backward`
    gives the gradients by x [batch, in] and by the values; it takes that of y [batch, out], then
    the same. What only fills a row up has none. `on_cpu` is the matrix as the CPU multiplies it,
    for forms that it would unpack at each call. `transposes` are more indices, which only the
    backward pass reads. `learns`: whether the values have gradients.
    """

    pack: Callable[..., Packed]
    multiply: Callable[[Tensor, Tensor, Tensor | None, Indices, Sizes], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor, Indices, Sizes], tuple[Tensor, Tensor]]
    on_cpu: Callable[[Tensor, Indices, Sizes], CpuSparse] | None = None
    transposes: Callable[[Packed], dict[str, Tensor]] | None = None
    learns: bool = True


def _pack_csr(matrix: Tensor, mask: Tensor) -> Packed:
    crow, columns, values = csr_arrays(matrix, mask)
    crow = crow.to(torch.int32)
    indices = {"crow": crow, "columns": columns.to(torch.int32), "order": row_order(crow)}
    return Packed(values, indices, tuple(matrix.shape))


def _transpose_csr(packed: Packed) -> dict[str, Tensor]:
    crow, columns, _ = packed.indices.values()
    names = ("transposed_crow", "transposed_columns", "transposed_places")
    return dict(zip(names, _transposed(crow, columns, packed.sizes[1]), strict=True))


def _transposed(crow: Tensor, columns: Tensor, ins: int) -> tuple[Tensor, Tensor, Tensor]:
    """The CSR structure of W^T, and where each of its values lies among those of W."""
    places = stable_order(columns, ins)
    rows = lines_of(crow, len(columns))[places].to(torch.int32)
    counts = torch.bincount(columns, minlength=ins)
    return F.pad(counts.cumsum(0), (1, 0)).to(torch.int32), rows, places


def _csr(x: Tensor, values: Tensor, bias: Tensor | None, indices: Indices, _: Sizes) -> Tensor:
    crow, columns, order, *_transposes = indices
    return csr_linear(crow, columns, values, x, bias=bias, order=order)


def _csr_backward(
    grad: Tensor, x: Tensor, values: Tensor, indices: Indices, sizes: Sizes
) -> tuple[Tensor, Tensor]:
    """A product with W^T; and outputs times inputs, only where W has entries."""
    crow, columns, order, *transposed = indices
    across, rows, places = transposed or _transposed(crow, columns, sizes[1])
    by_x = csr_linear(across, rows, values[places], grad)
    return by_x, sddmm(crow, columns, grad.t(), x.t(), order=order)


def _csr_on_cpu(values: Tensor, indices: Indices, sizes: Sizes) -> CpuSparse:
    return CpuSparse.from_csr(indices[0], indices[1], values, (sizes[0], sizes[1]))


def _pack_ell(matrix: Tensor, mask: Tensor) -> Packed:
    stored = ELL.from_mask(matrix, mask)
    # Kernels read 16 bits too, and then move half the bytes.
    short = matrix.is_cuda and matrix.shape[1] <= 1 << 16
    indices = {"columns": stored.columns.to(torch.uint16) if short else stored.columns32}
    if stored.counts is not None:
        indices["filling"] = ~stored.kept()
    return Packed(stored.values, indices, tuple(matrix.shape))


def _ell(x: Tensor, values: Tensor, bias: Tensor | None, indices: Indices, _: Sizes) -> Tensor:
    return ell_linear(indices[0], values, x, bias)


def _ell_backward(
    grad: Tensor, x: Tensor, values: Tensor, indices: Indices, _: Sizes
) -> tuple[Tensor, Tensor]:
    by_x, by_values = ell_linear_backward(indices[0], values, x, grad)
    return by_x, _without_filling(by_values, indices)


def _ell_on_cpu(values: Tensor, indices: Indices, sizes: Sizes) -> CpuSparse:
    return _even_rows(indices[0], values, sizes)


def _pack_bsr(matrix: Tensor, mask: Tensor, block: int = 16) -> Packed:
    stored = BSR.from_mask(matrix, mask, block=(block, block))
    crow, columns = stored.indices32
    return Packed(stored.values, {"crow": crow, "columns": columns}, tuple(matrix.shape))


def _bsr(x: Tensor, values: Tensor, bias: Tensor | None, indices: Indices, sizes: Sizes) -> Tensor:
    if not x.is_cuda:
        return sparse_linear_cpu(_bsr_on_cpu(values, indices, sizes), x, bias)
    crow, columns = indices
    across = -(-sizes[1] // values.shape[2]) * values.shape[2]
    whole = ((len(crow) - 1) * values.shape[1], across)
    matrix = torch.sparse_bsr_tensor(crow, columns, values, whole, check_invariants=False)
    flat = F.pad(x.reshape(-1, sizes[1]), (0, across - sizes[1]))
    y = (matrix @ flat.t())[: sizes[0]].t()
    return (y if bias is None else y + bias).reshape(*x.shape[:-1], sizes[0]).contiguous()


def _bsr_backward(
    grad: Tensor, x: Tensor, values: Tensor, indices: Indices, sizes: Sizes
) -> tuple[Tensor, Tensor]:
    """Two dense products: by the matrix itself, and the outer products, cut into its blocks."""
    crow, columns = indices
    _, height, width = values.shape
    dense = BSR((sizes[0], sizes[1]), (height, width), crow, columns, values).to_dense()
    whole = F.pad(grad.t() @ x, (0, -sizes[1] % width, 0, -sizes[0] % height))
    blocks = whole.view(len(crow) - 1, height, -1, width).transpose(1, 2)
    return grad @ dense, blocks[lines_of(crow, len(columns)), columns.long()]


def _bsr_on_cpu(values: Tensor, indices: Indices, sizes: Sizes) -> CpuSparse:
    return CpuSparse.from_bsr(indices[0], indices[1], values, (sizes[0], sizes[1]))


def _pack_bitmap(matrix: Tensor, mask: Tensor) -> Packed:
    stored = BitmapTiles.from_dense(matrix, mask)
    indices = {"words": stored.words, "offsets": stored.offsets}
    return Packed(stored.values, indices, tuple(matrix.shape))


def _tiles(values: Tensor, indices: Indices, sizes: Sizes) -> BitmapTiles:
    return BitmapTiles((sizes[0], sizes[1]), indices[0], indices[1], values.detach())


def _bitmap(
    x: Tensor, values: Tensor, bias: Tensor | None, indices: Indices, sizes: Sizes
) -> Tensor:
    return bitmap_linear(_tiles(values, indices, sizes), x, bias)


def _bitmap_backward(
    grad: Tensor, x: Tensor, values: Tensor, indices: Indices, sizes: Sizes
) -> tuple[Tensor, Tensor]:
    return bitmap_linear_backward(_tiles(values, indices, sizes), x, grad)


def _bitmap_on_cpu(values: Tensor, indices: Indices, sizes: Sizes) -> CpuSparse:
    return CpuSparse.from_dense(_tiles(values, indices, sizes).to_dense())


def _pack_nm(matrix: Tensor, mask: Tensor, n: int = 2, m: int = 4) -> Packed:
    stored = NM.from_mask(matrix, mask, n=n, m=m)
    indices = {"places": stored.indices}
    columns = nm_columns(stored.values, stored.indices, matrix.shape[1], n=n, m=m)
    filling = ~mask.gather(1, columns.long()) | _beyond(stored)
    if bool(filling.any()):
        indices["filling"] = filling
    return Packed(stored.values, indices, (*matrix.shape, n, m))


def _beyond(stored: NM) -> Tensor:
    """Which values lie after the last column, in a run that the matrix has only a part of."""
    runs = torch.arange(stored.values.shape[1], device=stored.values.device) // stored.n
    return stored.places.long() + runs * stored.m >= stored.shape[1]


def _nm(x: Tensor, values: Tensor, bias: Tensor | None, indices: Indices, sizes: Sizes) -> Tensor:
    return nm_linear(values, indices[0], x, bias, n=sizes[2], m=sizes[3])


def _nm_backward(
    grad: Tensor, x: Tensor, values: Tensor, indices: Indices, sizes: Sizes
) -> tuple[Tensor, Tensor]:
    by_x, by_values = nm_linear_backward(values, indices[0], x, grad, n=sizes[2], m=sizes[3])
    return by_x, _without_filling(by_values, indices)


def _nm_on_cpu(values: Tensor, indices: Indices, sizes: Sizes) -> CpuSparse:
    _, ins, n, m = sizes
    return _even_rows(nm_columns(values, indices[0], ins, n=n, m=m), values, sizes)


def _even_rows(columns: Tensor, values: Tensor, sizes: Sizes) -> CpuSparse:
    crow = torch.arange(len(values) + 1, dtype=torch.int32) * values.shape[1]
    return CpuSparse.from_csr(crow, columns.flatten(), values.flatten(), (sizes[0], sizes[1]))


def _without_filling(by_values: Tensor, indices: Indices) -> Tensor:
    return by_values.masked_fill(indices[1], 0) if len(indices) > 1 else by_values


def _pack_two_four(matrix: Tensor, mask: Tensor) -> Packed:
    stored = TwoFour.from_dense(torch.where(mask, matrix, 0))
    return Packed(stored.packed, {}, stored.shape)


def _two_four(x: Tensor, values: Tensor, bias: Tensor | None, _: Indices, sizes: Sizes) -> Tensor:
    return two_four_linear(TwoFour((sizes[0], sizes[1]), values.detach()), x, bias)


def _two_four_backward(
    grad: Tensor, x: Tensor, values: Tensor, _: Indices, sizes: Sizes
) -> tuple[Tensor, Tensor]:
    """The library keeps its packing to itself: the product with the unit matrix is W^T."""
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
    "csr": Form(_pack_csr, _csr, _csr_backward, _csr_on_cpu, _transpose_csr),
    "ell": Form(_pack_ell, _ell, _ell_backward, _ell_on_cpu),
    "bsr": Form(_pack_bsr, _bsr, _bsr_backward, _bsr_on_cpu),
    "bitmap": Form(_pack_bitmap, _bitmap, _bitmap_backward, _bitmap_on_cpu),
    "nm": Form(_pack_nm, _nm, _nm_backward, _nm_on_cpu),
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
