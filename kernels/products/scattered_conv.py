"""Convolutions of images with scattered weights on the CPU, by compiled loops and without patches.

What `compiled/csr_conv.py` does where it may: float32 images that lie contiguously. All else goes
through patches and the products of `cpu_sparse`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..compiled.jit import ready
from .cpu_sparse import CpuSparse
from .grouped.cpu import Window

if TYPE_CHECKING:
    from ..compiled.csr_conv import Plan

# Output pixels in a row from which on the loops are faster than patches.
_FEWEST_PIXELS = 4
# Places within an image, and within its tile with padding, are counted in 32 bits.
_MOST_ENTRIES = 2**29


def scattered_plan(window: Window, weight: CpuSparse, x: Tensor) -> Plan | None:
    """How to convolve images like `x` [n, c, h, w]; None for what has to go through patches.

    Raises ValueError where `x` is smaller than the kernel.
    """
    if x.dim() != 4 or x.dtype != torch.float32 or not x.is_contiguous():
        return None
    if weight.block != 1 or weight.matrix.dtype != torch.float32 or not ready():
        return None
    outputs = window.outputs(tuple(x.shape[2:]))
    if outputs[1] < _FEWEST_PIXELS or math.prod(x.shape[1:]) > _MOST_ENTRIES:
        return None
    from ..compiled.csr_conv import Plan

    down, across = window.walks()
    return Plan.of((down, across), weight.matrix.col_indices(), x.shape, outputs)


def scattered_conv_cpu(x: Tensor, weight: CpuSparse, bias: Tensor | None, plan: Plan) -> Tensor:
    """The convolution of `x` [n, c, h, w]: [n, out, height, width], contiguous.

    `weight` is the GEMM view [out, c * kernel] as CSR, `bias` [out] or None; `plan` is for images
    of this size. Gives no gradients.
    """
    from ..compiled.csr_conv import convolve

    matrix = weight.matrix
    y = x.new_empty(len(x), weight.shape[0], *plan.pieces.outputs)
    if y.numel():
        convolve(x, matrix.crow_indices(), matrix.values(), bias, y, plan)
    return y
