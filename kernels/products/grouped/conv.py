"""The convolution of which whole input positions are gone for all outputs (S1, algorithm 1).

On CUDA the gather happens inside the product, in one of two ways: `tile` in float arithmetic, `mma`
on tensor cores (fp16, bf16, tf32; sm_80 and above). x is read as [n, c, ...] contiguous, see
conv.cu for why; what comes in channels_last is copied to that first.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ...cuda.launch import launchable
from ...cuda.source import Source
from ..small_batch import aligned
from .conv_mma import grouped_conv_mma
from .launch import Convolution, conv_by_tiles
from .tiles import SIMT_TILES, check_dtypes, cut, has_tensor_cores

Method = Literal["tile", "mma"]

# Addresses within an image are computed in 32 bits, and a kernel's extents are bits of a word.
_MOST_ENTRIES = 2**31
_MOST_EXTENT = 31

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("grouped_conv", "grouped_conv_sum"),
    tuple(
        {"T": number, **tile.macros}
        for number in ("float", "half", "bfloat16")
        for tile in SIMT_TILES
    ),
)


def grouped_conv(
    x: Tensor,
    values: Tensor,
    kept: Tensor,
    bias: Tensor | None,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
    method: Method | None = None,
    tf32: bool = False,
) -> Tensor:
    """From x [n, c, *size] to [n, out, *outputs], reading only the positions `kept`.

    One to three dimensions, for each of which `kernel`, `stride`, `padding` (with zeros, on both
    sides) and `dilation` have an entry. `values` is [out, kept], `bias` [out] or None. `kept`,
    int32 [kept] in any order, flattens channel within the group and kernel position, as the columns
    of the weight's GEMM view; the groups share it. `tf32` allows tensor cores for fp32. `method`
    forces one way on CUDA. Raises ValueError where the input is smaller than the kernel and for
    dtypes that differ.
    """
    walk = Convolution(
        _three(kernel, 1), _three(stride, 1), _three(padding, 0), _three(dilation, 1), groups
    )
    missing = 3 - len(kernel)
    whole = x.reshape(*x.shape[:2], *(1,) * missing, *x.shape[2:])
    entries = math.prod(whole.shape[1:])
    fits = entries < _MOST_ENTRIES and sum(walk.kernel) <= _MOST_EXTENT
    if not launchable(x, values, kept) or x.dtype == torch.float64 or not fits:
        y = _by_torch(whole, values, kept, bias, walk)
    else:
        check_dtypes(x, values, bias)
        whole, kept = aligned(whole), kept.to(torch.int32).contiguous()
        if method is None:
            fast = x.dtype != torch.float32 or tf32
            method = "mma" if fast and has_tensor_cores(x.device) else "tile"
        by = grouped_conv_mma if method == "mma" else _tile
        y = by(whole, values, kept, bias, walk)
    return y.reshape(*y.shape[:2], *y.shape[2 + missing :])


def grouped_conv_backward(
    grad: Tensor,
    x: Tensor,
    values: Tensor,
    kept: Tensor,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
) -> tuple[Tensor, Tensor]:
    """The gradients to `x` and to `values`, from that of y, by the dense layer's backward.

    The weight is made dense for it and the kept columns of its gradient are taken: the dense
    layer's operations, whatever is pruned.
    """
    index = kept.long()
    weight = _dense(values, index, x.shape[1] // groups, kernel)
    to_x, to_weight, _ = torch.ops.aten.convolution_backward(
        *(grad, x, weight, None, stride, padding, dilation, False, [0] * len(kernel), groups),
        [True, True, False],
    )
    return to_x, to_weight.flatten(1).index_select(1, index)


def _three(part: tuple[int, ...], fill: int) -> tuple[int, int, int]:
    first, second, third = (*(fill,) * (3 - len(part)), *part)
    return first, second, third


def _dense(values: Tensor, index: Tensor, channels: int, kernel: tuple[int, ...]) -> Tensor:
    matrix = values.new_zeros(len(values), channels * math.prod(kernel))
    return matrix.index_copy_(1, index, values).view(len(values), channels, *kernel)


def _tile(
    x: Tensor, values: Tensor, kept: Tensor, bias: Tensor | None, walk: Convolution
) -> Tensor:
    steps = -(-len(kept) // SIMT_TILES[-1].words)
    columns = len(x) * math.prod(walk.outputs(tuple(x.shape[2:])))
    plan = cut(SIMT_TILES, len(values) // walk.groups, columns, steps, walk.groups, x.device)
    return conv_by_tiles(SOURCE, plan, x, values, kept, bias, walk)


def _by_torch(
    x: Tensor, values: Tensor, kept: Tensor, bias: Tensor | None, walk: Convolution
) -> Tensor:
    """Pick the im2col matrix's kept rows from a strided view of the padded input, then a GEMM."""
    outputs = walk.outputs(tuple(x.shape[2:]))
    padded = F.pad(x, [side for pad in reversed(walk.padding) for side in (pad, pad)])
    n, c, *strides = padded.stride()
    channels = x.shape[1] // walk.groups
    reach = [far * stride for far, stride in zip(walk.dilation, strides, strict=True)]
    jump = [step * stride for step, stride in zip(walk.stride, strides, strict=True)]
    patches = padded.as_strided(
        (len(x), walk.groups, channels, *walk.kernel, *outputs), (n, channels * c, c, *reach, *jump)
    )
    places = torch.unravel_index(kept.long(), (channels, *walk.kernel))
    gathered = torch.ops.aten.index(patches, (None, None, *places)).flatten(3)
    product = values.unflatten(0, (walk.groups, -1)) @ gathered
    y = product.reshape(len(x), len(values), *outputs)
    return y if bias is None else y + bias.view(-1, 1, 1, 1)
