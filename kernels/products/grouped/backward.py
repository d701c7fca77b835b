"""The gradients of a group-wise convolution on the CPU, without the dense weight.

In pieces that stay in the cache, of some images or of some lines of one: what the kept positions
read is gathered as rows; one GEMM gives the gradient by the values, another that by the rows, which
is added to the images where they were read.

Bytes moved through the cache: 20 * kept * pixels and more; operations: 4 * out * kept * pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .launch import Convolution

# Bytes of the rows of one piece.
_PIECE = 4 << 20


def grouped_conv_backward_cpu(
    grad: Tensor, x: Tensor, values: Tensor, kept: Tensor, walk: Convolution
) -> tuple[Tensor, Tensor]:
    """The gradients by `x` [n, c, depth, height, width] and by `values` [out, kept].

    `grad` is that by the output; all are float32, of one group. For where loops can be compiled.
    """
    from ...compiled.patches import Kept, gather, scatter

    outputs = walk.outputs(tuple(x.shape[2:]))
    steps = walk.kernel, walk.stride, walk.padding, walk.dilation
    where = Kept.of(kept, tuple(x.shape[1:]), outputs, *steps)
    x, grad = x.detach().contiguous(), grad.detach().flatten(2, 3)
    weight = values.detach().t()
    to_x, to_values = torch.zeros_like(x), torch.zeros_like(values)
    images, lines = _piece(len(x), outputs, len(kept))
    room = x.new_empty(2, len(kept) * images * lines * outputs[2])
    for image in range(0, len(x), images):
        for line in range(0, grad.shape[2], lines):
            given = grad[image : image + images, :, line : line + lines].transpose(0, 1)
            shape = len(kept), *given.shape[1:]
            rows, to_rows = (part[: math.prod(shape)].view(shape) for part in room)
            flat = given.flatten(1)
            gather(x, where, image, line, rows)
            to_values.addmm_(flat, rows.flatten(1).t())
            torch.mm(weight, flat, out=to_rows.flatten(1))
            scatter(to_rows, where, image, line, to_x)
    return to_x, to_values


def _piece(batch: int, outputs: tuple[int, ...], kept: int) -> tuple[int, int]:
    """Images, and lines of each, in a piece: several images only if they are whole."""
    line = 4 * max(1, kept) * outputs[2]
    whole = outputs[0] * outputs[1]
    pieces = -(-whole * line // _PIECE)
    images = max(1, min(batch, _PIECE // (whole * line)))
    return images, -(-whole // pieces)
