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

from ...compiled.jit import ready
from ...cuda.launch import launchable
from ...cuda.source import Source
from ..small_batch import aligned
from .backward import grouped_conv_backward_cpu
from .conv_mma import grouped_conv_mma
from .launch import Convolution, conv_by_tiles
from .tiles import SIMT_TILES, check_dtypes, cut, has_tensor_cores

Method = Literal["tile", "mma"]

# Addresses within an image are computed in 32 bits, and a kernel's extents are bits of a word.
_MOST_ENTRIES = 2**31
_MOST_EXTENT = 31
# The share of columns up to which gradients from them alone are faster on the CPU: at a quarter
# they measured 1.1 to 2.8 times as fast as the dense ones on the shapes of ResNet (the gradients of
# tests/bench/bench_cpu_products.py).
# oneDNN has fast bf16, but no fast fp16.
_FEW = 0.3

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
    walk = Convolution.of(kernel, stride, padding, dilation, groups)
    whole = walk.whole(x)
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
    return y.reshape(*y.shape[:2], *y.shape[-len(kernel) :])


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
    """The gradients to `x` and to `values`, from that of y.

    With a kernel of one place, those of the smaller convolution of the kept channels. Otherwise on
    the CPU, for one group, from the kept entries alone (`backward.py`): in fp32 if these are few
    enough for that to be faster, and in fp16, as fp32 and rounded once. Else, and where no loops
    can be compiled, the weight is made dense for the dense layer's backward, of which the kept
    columns are taken.
    """
    channels, index = x.shape[1] // groups, kept.long()
    walk = (stride, padding, dilation, False, [0] * len(kernel), groups)
    if math.prod(kernel) == 1:
        starts = torch.arange(0, x.shape[1], channels, device=x.device)
        used = (starts[:, None] + index).flatten()
        weight = values.view(*values.shape, *kernel)
        to_used, to_weight = _dense_backward(grad, x.index_select(1, used), weight, walk)
        return torch.zeros_like(x).index_copy_(1, used, to_used), to_weight.flatten(1)
    few = len(kept) <= _FEW * channels * math.prod(kernel)
    faster = x.dtype == torch.float16 or (x.dtype == torch.float32 and few)
    if x.is_cpu and groups == 1 and faster and grad.numel() and ready():
        steps = Convolution.of(kernel, stride, padding, dilation, groups)
        whole, given = steps.whole(x).float(), steps.whole(grad).float()
        by_x, by_values = grouped_conv_backward_cpu(given, whole, values.float(), kept, steps)
        return by_x.to(x.dtype).view(x.shape), by_values.to(x.dtype)
    to_x, to_weight = _dense_backward(grad, x, _dense(values, index, channels, kernel), walk)
    return to_x, to_weight.flatten(1).index_select(1, index)


def _dense_backward(
    grad: Tensor, x: Tensor, weight: Tensor, walk: tuple[object, ...]
) -> tuple[Tensor, Tensor]:
    to_x, to_weight, _ = torch.ops.aten.convolution_backward(
        grad, x, weight, None, *walk, (True, True, False)
    )
    return to_x, to_weight


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
