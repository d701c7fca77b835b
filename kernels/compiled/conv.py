"""Group-wise convolution of images: no gathered matrix, no GEMM, all sums in registers.

Rows of outputs are worked on in pieces. The input rows that a piece reads, of the channels that
have kept positions, are copied with their padding into a small tile; an input without padding is
its own tile. A panel of outputs at a time takes the piece's pixels, a few neighbours at once (see
`tile.Registers`): their sums are in registers over all kept positions, each of which is a place in
the tile that the first pixel reads.

Bytes moved, with 4 an entry: 2 * 4 * channels * pixels for the tile, and 4 * kept * (o + p) through
the first-level cache for every o outputs of p pixels; operations: 2 * out * kept * pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from threading import local
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from .jit import compiled, share
from .tile import HOST, add_position, begin, put
from .vectors import load, store

# Bytes of a tile: it stays in the second-level cache beside a panel of weights.
_TILE = 1 << 20
# Pixels of a piece that pay for going through all weights once more, to share the work evenly.
_FEWEST = 256
# Operations that pay for another thread.
_WORTH_A_THREAD = 10_000_000
# Entries that are copied at once.
_RUN = 16

Walk = tuple[int, int, int, int, int]
"""Kernel, stride, dilation, and padding before and after, along one dimension."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How images of one size are worked on: `rows` of outputs at a time.

    `channels` are copied into the tile, which has `tile` entries; `begins` says where in it each
    kept position's input for the first pixel lies; `sizes` is what `_loops` needs else. Tiles of
    sums are `pixels` wide, and their inputs `step` apart.
    """

    rows: int
    channels: NDArray[np.int64]
    begins: NDArray[np.int64]
    sizes: NDArray[np.int64]
    tile: int
    pixels: int
    step: int

    @classmethod
    def of(
        cls, down: Walk, across: Walk, kept: Tensor, shape: torch.Size, outputs: tuple[int, ...]
    ) -> Self:
        """For images of `shape` [n, c, h, w]; `kept` as the columns of the GEMM view, integers."""
        (kernel, stride, dilation, top, bottom), (taps, step, far, left, right) = down, across
        pitch, reach = shape[3] + left + right, dilation * (kernel - 1) + 1
        position, place = kept.long() // taps, kept.long() % taps
        channels, channel = torch.unique(position // kernel, return_inverse=True)
        fitting = (_TILE // (4 * max(1, len(channels)) * pitch) - reach) // stride + 1
        each = -(-outputs[0] * shape[0] // torch.get_num_threads())
        rows = max(1, min(outputs[0], fitting, max(each, _FEWEST // outputs[1])))
        high = (rows - 1) * stride + reach
        whole = not any((top, bottom, left, right))
        if whole:
            high, channel = shape[2], channels[channel]
        line = channel * high + position % kernel * dilation
        begins = line * pitch + place * far
        walk = whole, rows, stride, top, math.prod(shape[1:]), pitch, high, left
        sizes = np.array([*walk, *shape[2:], *outputs], np.int64)
        tile = 0 if whole else len(channels) * high * pitch
        pixels = -(-outputs[1] // -(-outputs[1] // HOST.pixels))
        return cls(rows, channels.numpy(), begins.numpy(), sizes, tile, pixels, step)


@dataclass(frozen=True, eq=False)
class Panels:
    """A weight [out, kept] as panels [panels, kept, outputs], and a bias, None for zeros.

    The last panel is filled up with zeros, as is the bias.
    """

    out: int
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> Self:
        """Of float32."""
        out = len(weight)
        short = -out % HOST.panel
        whole = F.pad(weight.detach(), (0, 0, 0, short))
        panels = whole.unflatten(0, (-1, HOST.panel)).transpose(1, 2)
        offset = weight.new_zeros(out) if bias is None else bias.detach()
        return cls(out, panels.contiguous().numpy(), F.pad(offset, (0, short)).numpy())


def convolve(x: Tensor, panels: Panels, y: Tensor, plan: Plan) -> None:
    """Write the convolution of x [n, c, h, w] to y [n, out, height, width].

    Both contiguous and float32.
    """
    given, result = x.detach().view(-1).numpy(), y.view(-1).numpy()
    arrays = panels.weight, panels.bias, result, plan.channels, plan.begins, plan.sizes, panels.out
    loops = _loops(plan.pixels, plan.step, HOST.lanes)
    of_thread = local()

    def work(first: int, end: int) -> None:
        if not hasattr(of_thread, "tile"):
            of_thread.tile = np.zeros(plan.tile, np.float32), np.array([-1])
        loops(given, *arrays, *of_thread.tile, first, end)

    pieces = len(x) * -(-y.shape[2] // plan.rows)
    operations = 2 * panels.weight[0].size * y[:, 0].numel() * len(panels.weight)
    share(work, pieces * len(panels.weight), operations // _WORTH_A_THREAD)


@cache
def _loops(pixels: int, step: int, lanes: int) -> Any:
    """The loops for tiles of `pixels` whose inputs lie `step` apart: all three are constants.

    They do the units from `first` to `end`: panel after panel of each piece. `tile` is of one
    thread, and `filled` says which piece its last units left in it.
    """

    @compiled(
        "void(f4[::1], f4[:, :, ::1], f4[::1], f4[::1], i8[::1], i8[::1], i8[::1], i8, f4[::1], "
        "i8[::1], i8, i8)"
    )
    def loops(
        x: Any,
        panels: Any,
        bias: Any,
        y: Any,
        channels: Any,
        begins: Any,
        sizes: Any,
        out: Any,
        tile: Any,
        filled: Any,
        first: Any,
        end: Any,
    ) -> None:
        whole, rows, stride, top, image_size, pitch = sizes[:6]
        height, width = sizes[-2:]
        count, kept = panels.shape[:2]
        weights, source = panels.reshape(-1), x if whole else tile
        each = -(-height // rows)
        for unit in range(first, end):
            piece, panel = unit // count, unit % count
            image, above = piece // each, piece % each * rows
            base = image * image_size + above * stride * pitch if whole else 0
            if not whole and piece != filled[0]:
                _fill(x, image * image_size, channels, above * stride - top, sizes, tile)
                filled[0] = piece
            outputs = panel * 2 * lanes
            for row in range(min(rows, height - above)):
                for near in range(0, width, pixels):
                    # The last pixels of a row are worked on from its end.
                    column = min(near, width - pixels)
                    place = base + row * stride * pitch + column * step
                    sums = begin(bias, outputs, pixels, lanes)
                    for k in range(kept):
                        weight = (panel * kept + k) * 2 * lanes
                        sums = add_position(sums, weights, weight, source, begins[k] + place, step)
                    into = ((image * out + outputs) * height + above + row) * width + column
                    put(y, into, height * width, out - outputs, sums)

    return loops


@compiled()
def _fill(x: Any, image: Any, channels: Any, first: Any, sizes: Any, tile: Any) -> None:
    """Copy the input rows from `first` on of the image that begins at `image`, zeros beyond them.

    The tile is [channels, high, pitch], and zero left and right of where rows are copied to.
    """
    pitch, high, left, height, width = sizes[5:10]
    at = 0
    for channel in channels:
        for row in range(first, first + high):
            if 0 <= row < height:
                _copy(x, image + (channel * height + row) * width, tile, at + left, width)
            else:
                tile[at : at + pitch] = 0
            at += pitch


@compiled()
def _copy(source: Any, first: Any, target: Any, place: Any, count: Any) -> None:
    if count < _RUN:
        for at in range(count):
            target[place + at] = source[first + at]
    else:
        for near in range(0, count, _RUN):
            at = min(near, count - _RUN)
            store(target, place + at, load(source, first + at, _RUN))
