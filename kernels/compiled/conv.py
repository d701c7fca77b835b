"""Group-wise convolution of images, straight out of a padded tile: no gathered matrix, no GEMM.

Rows of outputs are worked on in pieces. The input rows that a piece reads are copied into a small
padded tile, with every stride-th column side by side (see `products.grouped.cpu.Gather`), so that
what a kept position contributes to a run of neighbouring outputs is a run of the tile. Four outputs
at a time have their sums for 32 neighbouring pixels in registers, over all kept positions.

Bytes moved, with 4 an entry: 2 * 4 * channels * pixels for the tile, and 4 * kept * pixels out of
the first-level cache for every four outputs; operations: 2 * out * kept * pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .jit import compiled, share
from .vectors import add, load, splat, store, times

_LANES = FEWEST = 32
"""Pixels that a row of outputs has at least; the last ones are worked on from its end."""
# Bytes of a tile: it stays in the second-level cache.
_TILE = 1 << 18
_WORTH_A_THREAD = 1 << 22


Walk = tuple[int, int, int, int, int]
"""Kernel, stride, dilation, and padding before and after, along one dimension."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How images of one size are worked on: `rows` of outputs at a time.

    `begins` says where each kept position's run for the first pixel lies in the tile, and `sizes`
    has the tile's rows, channels apart, and what `_pieces` needs else.
    """

    rows: int
    begins: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(
        cls, down: Walk, across: Walk, kept: Tensor, shape: torch.Size, outputs: tuple[int, ...]
    ) -> Self:
        """For images of `shape` [n, c, h, w]; `kept` as the columns of the GEMM view, integers."""
        (kernel, stride, dilation, top, _), (taps, step, far, left, right) = down, across
        wide = -(-(shape[3] + left + right) // step)
        reach, pitch = dilation * (kernel - 1) + 1, step * wide
        fitting = (_TILE // (4 * shape[1] * pitch) - reach) // stride + 1
        rows = max(1, min(outputs[0], fitting))
        high = (rows - 1) * stride + reach
        position, place = kept.long() // taps, kept.long() % taps * far
        line = position // kernel * high + position % kernel * dilation
        begins = line * pitch + place % step * wide + place // step
        sizes = np.array([rows, high, stride, top, step, wide, left, *outputs], np.int64)
        return cls(rows, begins.numpy(), sizes)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor, plan: Plan) -> None:
    """Write the convolution of x [n, c, h, w] to y [n, out, height, width], contiguous.

    `weight` is [out, kept], `bias` [out] or None; all float32. Rows of y have at least `FEWEST`
    pixels.
    """
    offset = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    given, entries = x.detach().numpy(), weight.detach().contiguous().numpy()
    target = y.view(-1).numpy()
    piece = partial(
        _pieces, given, entries, offset.contiguous().numpy(), target, plan.begins, plan.sizes
    )
    work = 2 * weight.numel() * y[:, 0].numel()
    share(piece, len(x) * -(-y.shape[2] // plan.rows), work // _WORTH_A_THREAD)


@compiled()
def _fill(image: Any, first: Any, sizes: Any, tile: Any) -> None:
    """Copy input rows from `first` on into the tile [c, high, step, wide], zeros around them."""
    high, step, wide, left = sizes[1], sizes[4], sizes[5], sizes[6]
    channels, height, width = image.shape
    for c in range(channels):
        for r in range(high):
            row = first + r
            if row < 0 or row >= height:
                continue
            source = image[c, row]
            for part in range(step):
                at = ((c * high + r) * step + part) * wide
                column = part - left
                begin = 0
                while column < 0:
                    column += step
                    begin += 1
                count = -(-(width - column) // step)
                for place in range(count):
                    tile[at + begin + place] = source[column + place * step]


@compiled("void(f4[:, :, :, :], f4[:, ::1], f4[::1], f4[::1], i8[::1], i8[::1], i8, i8)")
def _pieces(
    x: Any,
    weight: Any,
    bias: Any,
    y: Any,
    begins: Any,
    sizes: Any,
    first: Any,
    end: Any,
) -> None:
    rows, high, stride, top, step, wide = sizes[:6]
    height, width = sizes[7], sizes[8]
    out, kept = weight.shape
    each = -(-height // rows)
    tile = np.zeros(x.shape[1] * high * step * wide + _LANES, np.float32)
    for piece in range(first, end):
        image, above = piece // each, piece % each * rows
        start = above * stride - top
        if start < 0 or start + high > x.shape[2]:
            tile[:] = 0
        _fill(x[image], start, sizes, tile)
        for r in range(min(rows, height - above)):
            pixel = 0
            while pixel < width:
                pixel = min(pixel, width - _LANES)
                into = (image * out * height + above + r) * width + pixel
                base = r * stride * step * wide + pixel
                for o in range(0, out, 4):
                    # Outputs beyond the last one repeat it: they write what it has.
                    o1, o2, o3 = min(o + 1, out - 1), min(o + 2, out - 1), min(o + 3, out - 1)
                    a, b = splat(bias[o], _LANES), splat(bias[o1], _LANES)
                    c, d = splat(bias[o2], _LANES), splat(bias[o3], _LANES)
                    w0, w1, w2, w3 = weight[o], weight[o1], weight[o2], weight[o3]
                    for k in range(kept):
                        v = load(tile, begins[k] + base, _LANES)
                        a = add(a, times(splat(w0[k], _LANES), v))
                        b = add(b, times(splat(w1[k], _LANES), v))
                        c = add(c, times(splat(w2[k], _LANES), v))
                        d = add(d, times(splat(w3[k], _LANES), v))
                    store(y, into + o * height * width, a)
                    store(y, into + o1 * height * width, b)
                    store(y, into + o2 * height * width, c)
                    store(y, into + o3 * height * width, d)
                pixel += _LANES
