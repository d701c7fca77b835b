"""Products with a bitmap matrix, for small batches: one bit per entry and the values kept.

A GPU reads only those bytes, and so does a CPU with AVX-512 in fp32. Otherwise the CPU unpacks the
matrix at each call, so that dense is the better choice there.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..compiled.jit import ready
from ..cuda.launch import launch, launchable
from ..cuda.source import Source, scalar
from .bitmap_mma import bitmap_mma
from .bitmap_tiles import BitmapTiles
from .small_batch import aligned, rows

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("bitmap_1", "bitmap_2", "bitmap_4", "bitmap_8"),
    ({"T": "float"}, {"T": "half"}, {"T": "bfloat16"}),
)
_MOST_WARPS = 16
# Samples for which the CPU reads the bits again and again.
_FEW = 16
BITS_PAY = 0.15
"""The share of entries from which on the CPU is faster by a bitmap than by CSR."""


def bitmap_linear(matrix: BitmapTiles, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """The linear layer y = x W^T + bias, x [..., in] to [..., out]; `bias` is [out] or None.

    Accumulates in fp32. The CPU takes any floating dtype, a GPU fp32, fp16 and bf16 (TypeError
    otherwise); the latter two run on its tensor cores, where it has them (from sm_80 on).
    """
    if not launchable(matrix.words, x):
        if reads_bits(x):
            return _bitmap_cpu(matrix, x, bias)
        return F.linear(x, matrix.to_dense(), bias)
    samples = rows(x)
    # Vector loads take four columns at once, so that rows of x must start at multiples of four.
    if samples.shape[1] % 4:
        samples = F.pad(samples, (0, -samples.shape[1] % 4))
    product = bitmap_mma if _has_tensor_cores(x) else bitmap_cuda
    return product(matrix, samples, bias).view(*x.shape[:-1], matrix.shape[0])


def reads_bits(x: Tensor) -> bool:
    """Whether the CPU multiplies x [..., in] from the bits and values, without unpacking them."""
    few = math.prod(x.shape[:-1]) <= _FEW
    if not few or not x.is_cpu or x.dtype != torch.float32 or not ready():
        return False
    from ..compiled import bitmap

    return bitmap.EXPANDS


def _bitmap_cpu(matrix: BitmapTiles, x: Tensor, bias: Tensor | None) -> Tensor:
    from ..compiled import bitmap

    out, ins = matrix.shape
    flat = x.detach().reshape(math.prod(x.shape[:-1]), ins)
    given = F.pad(flat, (0, -ins % matrix.chunk)).contiguous()
    y = given.new_empty(len(given), out)
    offset = given.new_zeros(out) if bias is None else bias.detach().float()
    parts = matrix.words, matrix.offsets, matrix.values.detach().float(), given, offset, y
    bitmap.multiply(*(part.contiguous().numpy() for part in parts))
    return y.view(*x.shape[:-1], out)


def bitmap_cuda(matrix: BitmapTiles, x: Tensor, bias: Tensor | None) -> Tensor:
    """On CUDA cores: x [batch, stride], stride a multiple of four, contiguous, to [batch, out]."""
    if x.dtype == torch.float64:
        raise TypeError("the bitmap kernel computes in float32, float16 and bfloat16, not float64")
    out, (strips, chunks), (batch, stride) = matrix.shape[0], matrix.offsets.shape, x.shape
    tile = next((tile for tile in (1, 2, 4) if tile >= batch), 8)
    y = torch.empty(batch, out, dtype=x.dtype, device=x.device)
    offset = y if bias is None else bias.contiguous()
    tensors = (matrix.words, matrix.offsets, matrix.values, aligned(x), offset, y)
    launch(
        SOURCE,
        f"bitmap_{tile}",
        (strips, -(-batch // tile)),
        (32 * min(_MOST_WARPS, max(1, chunks)),),
        (*tensors, out, chunks, stride, batch, int(bias is not None)),
        variant={"T": scalar(x.dtype)},
    )
    return y


def _has_tensor_cores(x: Tensor) -> bool:
    """Whether this dtype and device take the way of tensor cores."""
    if x.dtype not in (torch.float16, torch.bfloat16):
        return False
    return not x.is_cuda or torch.cuda.get_device_capability(x.device) >= (8, 0)
