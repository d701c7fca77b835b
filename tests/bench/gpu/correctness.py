"""The products at real sizes against double precision, in every dtype, on poisoned outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from secateur.kernels.formats import CSR
from secateur.kernels.products.bitmap import bitmap_cuda, bitmap_linear
from secateur.kernels.products.bitmap_tiles import BitmapTiles
from secateur.kernels.products.csr_spmm import csr_linear, csr_spmm, row_order
from secateur.kernels.products.ell import ell_linear
from secateur.kernels.products.grouped.columns import pack_columns
from secateur.kernels.products.grouped.conv import grouped_conv
from secateur.kernels.products.grouped.linear import grouped_linear
from secateur.kernels.products.nm import nm_linear
from secateur.kernels.products.sddmm import sddmm
from secateur.kernels.products.two_four import TwoFour, two_four_conv2d, two_four_linear
from secateur.kernels.selection.packing import pack_n_of_m
from secateur.tests.bench.gpu.grouped import DTYPES
from secateur.tests.bench.gpu.setting import (
    Case,
    Json,
    Setting,
    distance,
    fp32_precision,
    poisoned,
)

Found = tuple[object, object]
Make = Callable[[Setting, torch.dtype], Found]

# Operands are exact in double; what is left is one rounding of the result (fp16, bf16: half a last
# place, 2^-12 and 2^-9 at most), of the operands (tf32: 2^-11 each) or of fp32 sums.
LIMITS = {"fp32": 1e-5, "tf32": 2e-3, "fp16": 1e-3, "bf16": 8e-3}


def check(group: str, words: str, make: Make, precision: str) -> Case:
    """A row: `make` gives what was computed and its reference."""
    return Case(group, f"{group}, {words}, {precision}", partial(_check, make, precision))


def _check(make: Make, precision: str, setting: Setting, _: float) -> Json:
    word = "tf32" if precision == "tf32" else "ieee"
    with fp32_precision(word), poisoned():
        error = distance(*make(setting, DTYPES[precision]))
    setting.settle()
    return {"kind": "check", "error": error, "limit": LIMITS[precision]}


def cases(setting: Setting) -> list[Case]:
    return [*_grouped(setting), *_small(setting), *_csr(setting)]


def _grouped(setting: Setting) -> Iterator[Case]:
    out, ins = (48, 64) if setting.quick else (4096, 4099)
    ways: dict[str, tuple[str, ...]] = {
        "rows": ("fp32", "fp16", "bf16"),
        "tile": ("fp32", "fp16", "bf16"),
        "mma": ("tf32", "fp16", "bf16"),
        "gathered": ("fp32", "tf32", "fp16", "bf16"),
    }
    for way, precisions in ways.items():
        for precision in precisions:
            for batch in (1, 8) if way == "rows" else (33, 512):
                make = partial(_linear, out, ins, batch, way)
                yield check(
                    f"grouped linear, {way}", f"{out}x{ins}, batch {batch}", make, precision
                )
    small = setting.quick
    walks = {
        "3x3": ((8, 64, 64, 56, 56), 3, 1, 1, 1, 1),
        "3x3, stride 2": ((4, 96, 250, 29, 31), 3, 2, 1, 1, 1),
        "7x7, stride 2": ((4, 3, 64, 224, 224), 7, 2, 3, 1, 1),
        "1x1": ((8, 1024, 256, 14, 14), 1, 1, 0, 1, 1),
        "deep, few pixels": ((2, 512, 512, 7, 7), 3, 1, 1, 1, 1),
        "dilated, 4 groups": ((4, 64, 128, 28, 28), 3, 1, 2, 2, 4),
        "1-d": ((8, 64, 96, 1001), 5, 1, 2, 1, 1),
        "3-d": ((2, 16, 32, 9, 28, 28), 3, 1, 1, 1, 1),
    }
    for name, ((batch, ins, out, *size), *walk) in walks.items():
        if small:
            ins, out, size = min(ins, 8), min(out, 12), [min(length, 11) for length in size]
        for way, precisions in (("tile", ways["tile"]), ("mma", ways["mma"])):
            for precision in precisions:
                make = partial(_convolution, (batch, ins, out, *size), walk, way)
                yield check(f"grouped conv, {way}", name, make, precision)


def _linear(
    out: int, ins: int, batch: int, way: str, setting: Setting, dtype: torch.dtype
) -> Found:
    mask = setting.columns(ins, 0.25)
    weight = (setting.randn(out, ins, fan=ins) * mask).to(dtype)
    x, bias = setting.randn(batch, ins, dtype=dtype), setting.randn(out, dtype=dtype)
    tf32 = torch.backends.cuda.matmul.fp32_precision == "tf32"
    y = grouped_linear(x, *pack_columns(weight, mask), bias, method=way, tf32=tf32)
    return y, F.linear(x.double(), weight.double(), bias.double())


def _convolution(
    shape: tuple[int, ...], walk: list[int], way: str, setting: Setting, dtype: torch.dtype
) -> Found:
    (batch, ins, out, *size), (kernel, stride, padding, dilation, groups) = shape, walk
    dims = len(size)
    taps = ins // groups * kernel**dims
    mask = setting.columns(taps, 0.25)
    matrix = (setting.randn(out, taps, fan=taps) * mask).to(dtype)
    x, bias = setting.randn(batch, ins, *size, dtype=dtype), setting.randn(out, dtype=dtype)
    values, kept = pack_columns(matrix, mask)
    y = grouped_conv(
        *(x, values, kept, bias),
        kernel=(kernel,) * dims,
        stride=(stride,) * dims,
        padding=(padding,) * dims,
        dilation=(dilation,) * dims,
        groups=groups,
        method=way,
        tf32=torch.backends.cudnn.conv.fp32_precision == "tf32",
    )
    weight = matrix.view(out, ins // groups, *(kernel,) * dims).double()
    run = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    return y, run(x.double(), weight, bias.double(), stride, padding, dilation, groups)


def _small(setting: Setting) -> Iterator[Case]:
    out, ins = (40, 72) if setting.quick else (4099, 4104)
    forms: dict[str, Callable[[Tensor, Tensor, Tensor], Found]] = {
        "ELL": _ell,
        "bitmap": _bitmap,
        "bitmap, CUDA cores": partial(_bitmap, product=bitmap_cuda),
        **{f"{n}:{m}": partial(_nm, n, m) for n, m in ((2, 4), (1, 4), (2, 8), (5, 16))},
    }
    for name, form in forms.items():
        for precision in ("fp32", "fp16", "bf16"):
            for batch in (1, 7, 16, 130):
                make = partial(_of_form, form, out, ins, batch)
                yield check(name, f"{out}x{ins}, batch {batch}", make, precision)
    for precision in ("fp16", "bf16"):
        yield check(
            "2:4 by cuSPARSELt", "linear", partial(_of_form, _vendor, out, ins, 130), precision
        )
        yield check("2:4 by cuSPARSELt", "convolution", _vendor_conv, precision)


def _of_form(
    form: Callable[..., Found], out: int, ins: int, batch: int, setting: Setting, dtype: torch.dtype
) -> Found:
    weight = setting.randn(out, ins, fan=ins, dtype=dtype)
    return form(
        weight * setting.scattered(out, ins, 0.4),
        setting.randn(batch, ins, dtype=dtype),
        setting.randn(out, dtype=dtype),
    )


def _reference(weight: Tensor, x: Tensor, bias: Tensor) -> Tensor:
    return F.linear(x.double(), weight.double(), bias.double())


def _ell(weight: Tensor, x: Tensor, bias: Tensor) -> Found:
    width = weight.shape[1] // 4
    columns = weight.abs().topk(width).indices.sort().values
    values = weight.gather(1, columns)
    dense = torch.zeros_like(weight).scatter_(1, columns, values)
    return ell_linear(columns, values, x, bias), _reference(dense, x, bias)


def _bitmap(weight: Tensor, x: Tensor, bias: Tensor, product: Callable = bitmap_linear) -> Found:
    if product is bitmap_cuda and not x.is_cuda:
        product = bitmap_linear
    return product(BitmapTiles.from_dense(weight), x, bias), _reference(weight, x, bias)


def _nm(n: int, m: int, weight: Tensor, x: Tensor, bias: Tensor) -> Found:
    stored = pack_n_of_m(weight, n, m)
    y = nm_linear(stored.values, stored.indices, x, bias, n=n, m=m)
    return y, _reference(stored.to_dense(), x, bias)


def _vendor(weight: Tensor, x: Tensor, bias: Tensor) -> Found:
    dense = pack_n_of_m(weight, 2, 4).to_dense()
    return two_four_linear(TwoFour.from_dense(dense), x, bias), _reference(dense, x, bias)


def _vendor_conv(setting: Setting, dtype: torch.dtype) -> Found:
    ins, out, size = (8, 16, 9) if setting.quick else (64, 128, 28)
    dense = pack_n_of_m(setting.randn(out, ins * 9, fan=ins * 9, dtype=dtype), 2, 4).to_dense()
    x = setting.randn(4, ins, size, size, dtype=dtype)
    y = two_four_conv2d(TwoFour.from_dense(dense), x, kernel=(3, 3), padding=(1, 1))
    return y, F.conv2d(x.double(), dense.view(out, ins, 3, 3).double(), padding=1)


def _csr(setting: Setting) -> Iterator[Case]:
    out, ins = (40, 72) if setting.quick else (4099, 4104)
    for precision in ("fp32", "fp16", "bf16"):
        for samples in (1, 8, 65, 512):
            size = f"{out}x{ins}, {samples} samples"
            for name, product in (("CSR W X", _spmm), ("CSR linear", _spmv), ("SDDMM", _sddmm)):
                make = partial(_scattered, product, out, ins, samples)
                yield check(name, size, make, precision)


def _scattered(
    product: Callable[..., Found],
    out: int,
    ins: int,
    samples: int,
    setting: Setting,
    dtype: torch.dtype,
) -> Found:
    """Some rows are empty, one is full."""
    kept = setting.scattered(out, ins, 0.1)
    kept[::7], kept[3] = False, True
    weight = setting.randn(out, ins, fan=ins, dtype=dtype) * kept
    stored = CSR.from_mask(weight, kept)
    arrays = (*stored.indices32, stored.values)
    x = setting.randn(ins, samples, dtype=dtype)
    bias = setting.randn(out, samples, dtype=dtype)
    return product(weight, kept, arrays, x, bias)


def _spmm(weight: Tensor, _: Tensor, arrays: tuple[Tensor, ...], x: Tensor, bias: Tensor) -> Found:
    offset = bias[:, 0].contiguous()
    y = csr_spmm(*arrays, x, bias=offset, order=row_order(arrays[0]))
    return y, weight.double() @ x.double() + offset.double().unsqueeze(1)


def _spmv(weight: Tensor, _: Tensor, arrays: tuple[Tensor, ...], x: Tensor, bias: Tensor) -> Found:
    offset, rows = bias[:, 0].contiguous(), x.t().contiguous()
    return csr_linear(*arrays, rows, bias=offset), _reference(weight, rows, offset)


def _sddmm(_: Tensor, kept: Tensor, arrays: tuple[Tensor, ...], x: Tensor, grad: Tensor) -> Found:
    crow, columns, _values = arrays
    values = sddmm(crow, columns, grad, x, order=row_order(crow))
    return values, (grad.double() @ x.double().t())[kept]
