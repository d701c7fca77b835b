"""The forms of single entries that are not CSR: ELL, bitmap and N:M.

They are trained alike, through the structure of their entries by rows and by columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..cuda.launch import launchable
from ..formats.ell import ELL
from ..formats.nm import NM
from ..products.bitmap import BITS_PAY, bitmap_linear, reads_bits
from ..products.bitmap_tiles import BitmapTiles
from ..products.cpu_sparse import CpuSparse
from ..products.ell import ell_linear
from ..products.nm import nm_columns, nm_linear
from ..products.scattered import Scattered, scattered_linear, scattered_linear_backward
from .form import Form, Indices, Multiply, OnCpu, Packed, Sizes

Locate = Callable[[Tensor, Indices, Sizes], Scattered]


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


def _locate_ell(values: Tensor, indices: Indices, sizes: Sizes) -> Scattered:
    return _in_even_rows(indices[0], indices[1:], sizes)


def _ell_on_cpu(values: Tensor, indices: Indices, sizes: Sizes) -> CpuSparse:
    return _even_rows(indices[0], values, sizes)


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


def _locate_bitmap(values: Tensor, indices: Indices, sizes: Sizes) -> Scattered:
    tiles = _tiles(values, indices, sizes)
    rows, columns = tiles.located()
    order = (rows * sizes[1] + columns).argsort()
    return Scattered.of(rows[order], columns[order], order, tiles.shape)


def _bitmap_on_cpu(values: Tensor, indices: Indices, sizes: Sizes) -> CpuSparse:
    return CpuSparse.from_dense(_tiles(values, indices, sizes).to_dense())


def _bits_pay(x: Tensor, density: float) -> bool:
    return density >= BITS_PAY and reads_bits(x)


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


def _locate_nm(values: Tensor, indices: Indices, sizes: Sizes) -> Scattered:
    _, ins, n, m = sizes
    return _in_even_rows(nm_columns(values, indices[0], ins, n=n, m=m), indices[1:], sizes)


def _nm_on_cpu(values: Tensor, indices: Indices, sizes: Sizes) -> CpuSparse:
    _, ins, n, m = sizes
    return _even_rows(nm_columns(values, indices[0], ins, n=n, m=m), values, sizes)


def _even_rows(columns: Tensor, values: Tensor, sizes: Sizes) -> CpuSparse:
    crow = torch.arange(len(values) + 1, dtype=torch.int32) * values.shape[1]
    return CpuSparse.from_csr(crow, columns.flatten(), values.flatten(), (sizes[0], sizes[1]))


def _in_even_rows(columns: Tensor, filling: Indices, sizes: Sizes) -> Scattered:
    """The structure of `columns` [out, width] without what only fills rows up, if anything does."""
    width = max(1, columns.shape[1])
    flat = columns.flatten().to(torch.int32)
    places = torch.arange(len(flat), device=flat.device)
    if filling:
        places = places[~filling[0].flatten()]
    return Scattered.of(places // width, flat[places], places, (sizes[0], sizes[1]))


def _scattered(
    pack: Callable[..., Packed], multiply: Multiply, on_cpu: OnCpu, locate: Locate
) -> Form:
    """A form of scattered entries, trained through their structure, which `locate` finds.

    That is found once where it is kept with the indices, otherwise at each backward pass.
    """

    def through(
        x: Tensor, values: Tensor, bias: Tensor | None, indices: Indices, sizes: Sizes
    ) -> Tensor:
        where = Scattered.among(indices)
        if where is None or launchable(values, x):
            return multiply(x, values, bias, indices, sizes)
        return scattered_linear(where, values, x, bias)

    def backward(
        grad: Tensor, x: Tensor, values: Tensor, indices: Indices, sizes: Sizes
    ) -> tuple[Tensor, Tensor]:
        where = Scattered.among(indices) or locate(values, indices, sizes)
        return scattered_linear_backward(where, values, x, grad)

    def transposes(packed: Packed) -> dict[str, Tensor]:
        return locate(packed.values, list(packed.indices.values()), packed.sizes)._asdict()

    return Form(pack, through, backward, on_cpu, transposes=transposes)


SCATTERED = {
    "ell": _scattered(_pack_ell, _ell, _ell_on_cpu, _locate_ell),
    "bitmap": replace(
        _scattered(_pack_bitmap, _bitmap, _bitmap_on_cpu, _locate_bitmap), as_packed=_bits_pay
    ),
    "nm": _scattered(_pack_nm, _nm, _nm_on_cpu, _locate_nm),
}
"""These forms by name."""
