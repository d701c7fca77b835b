"""A convolution's input as the columns that W[out, in] multiplies."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from .gemm import Gemm


def im2col(module: Any, gemm: Gemm, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Columns [n, groups, in, positions] of the input x [n, c, *size], and positions per axis.

    `module` is a convolution, plain or transposed, of one to three dimensions and `gemm` the view
    of its weight: group by group, W times the columns is the module's output without its bias.
    """
    seen, dims = windows(module, gemm, x), len(gemm.kernel)
    places = tuple(seen.shape[2 : 2 + dims])
    taps_first = [0, 1, *range(2 + dims, 2 + 2 * dims), *range(2, 2 + dims)]
    columns = seen.permute(taps_first).reshape(len(x), gemm.groups, gemm.shape[1], -1)
    return columns, places


def windows(module: Any, gemm: Gemm, x: Tensor) -> Tensor:
    """What the kernel sees at each position: [n, c, *positions, *kernel] of x [n, c, *size].

    Overlapping windows share memory, except in a transposed convolution.
    """
    stride = module.stride
    if gemm.transposed:
        # A transposed convolution is a plain one over the spread-out input, with a flipped kernel.
        x, stride = _spread(module, gemm, x), (1,) * len(gemm.kernel)
    else:
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
    for axis, (k, s, d) in enumerate(zip(gemm.kernel, stride, module.dilation, strict=True), 2):
        x = x.unfold(axis, d * (k - 1) + 1, s)[..., ::d]
    return x.flip(list(range(-len(gemm.kernel), 0))) if gemm.transposed else x


def _spread(module: Any, gemm: Gemm, x: Tensor) -> Tensor:
    size = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], module.stride, strict=True)]
    spread = x.new_zeros(*x.shape[:2], *size)
    spread[(slice(None), slice(None), *(slice(None, None, s) for s in module.stride))] = x
    pads: list[int] = []
    settings = zip(gemm.kernel, module.padding, module.dilation, module.output_padding, strict=True)
    for k, p, d, extra in reversed(list(settings)):
        pads += [d * (k - 1) - p, d * (k - 1) - p + extra]
    return F.pad(spread, pads)
