"""Group-wise convolution of images: no gathered matrix, no GEMM, all sums in registers.

The images are worked on in pieces (see `pieces`). A panel of outputs at a time takes a piece's
pixels, a few neighbours at once (see `tile.Registers`): their sums are in registers over all kept
positions.

Bytes moved, with 4 an entry: 2 * 4 * channels * pixels for the tiles, and 4 * kept * (o + p)
through the first-level cache for every o outputs of p pixels; operations: 2 * out * kept * pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from .jit import compiled
from .pieces import SIGNATURE, Floats, Longs, Pieces, Walk, filled_tile
from .tile import HOST, add_position, begin, put

# Operations that pay for another thread.
_WORTH_A_THREAD = 10_000_000


@dataclass(frozen=True, eq=False)
class Plan:
    """How images of one size are worked on: `pixels` at a time.

    `begins` [kept] says where in a piece's tile each kept position's input for the first pixel is.
    """

    pieces: Pieces
    begins: Longs
    pixels: int

    @classmethod
    def of(
        cls, walks: tuple[Walk, Walk], kept: Tensor, shape: torch.Size, outputs: tuple[int, ...]
    ) -> Self:
        """For images of `shape` [n, c, h, w]; `kept` as the columns of the GEMM view, integers."""
        return cls(*Pieces.of(walks, kept, shape, outputs), _pixels(outputs[1]))


@dataclass(frozen=True, eq=False)
class Panels:
    """A weight [out, kept] as panels [panels, kept, outputs], and a bias, None for zeros.

    The last panel is filled up with zeros, as is the bias.
    """

    out: int
    vectors: int
    weight: Floats
    bias: Floats

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> Self:
        """Of float32."""
        out = len(weight)
        vectors = HOST.vectors(out)
        panel = vectors * HOST.lanes
        short = -out % panel
        whole = F.pad(weight.detach(), (0, 0, 0, short))
        panels = whole.unflatten(0, (-1, panel)).transpose(1, 2).contiguous()
        offset = weight.new_zeros(out) if bias is None else bias.detach()
        return cls(out, vectors, panels.numpy(), F.pad(offset, (0, short)).numpy())


def convolve(x: Tensor, panels: Panels, y: Tensor, plan: Plan) -> None:
    """Write the convolution of x [n, c, h, w] to y [n, out, height, width].

    Both contiguous and float32.
    """
    loops = _loops(plan.pixels, HOST.lanes, panels.vectors)
    operations = 2 * panels.weight[0].size * y[:, 0].numel() * len(panels.weight)
    arrays = plan.begins, panels.weight, panels.bias, y.view(-1).numpy(), panels.out
    plan.pieces.work(loops, x, len(panels.weight), operations // _WORTH_A_THREAD, *arrays)


def prepare() -> None:
    """Make the loops for images of common widths: multiples of 14, 8 and 7."""
    for width in (HOST.pixels, 8, 7):
        _loops(_pixels(width), HOST.lanes, 2)


def _pixels(width: int) -> int:
    """How many pixels at a time leave the fewest of a row to be worked on twice."""
    return -(-width // -(-width // HOST.pixels))


@cache
def _loops(pixels: int, lanes: int, vectors: int) -> Any:
    """The loops for so many pixels at a time, and panels of so many vectors: constants in them.

    They do the units from `first` to `end`: panel after panel of each piece.
    """

    @compiled(f"void({SIGNATURE}, i8[::1], f4[:, :, ::1], f4[::1], f4[::1], i8, i8, i8)")
    def loops(
        x: Any,
        channels: Any,
        sizes: Any,
        tile: Any,
        filled: Any,
        begins: Any,
        panels: Any,
        bias: Any,
        y: Any,
        out: Any,
        first: Any,
        end: Any,
    ) -> None:
        rows, pitch = sizes[0], sizes[2]
        height, width = sizes[-2:]
        count, kept = panels.shape[:2]
        weights, wide = panels.reshape(-1), vectors * lanes
        for unit in range(first, end):
            panel = unit % count
            source, base, image, above = filled_tile(
                x, channels, sizes, tile, filled, unit // count
            )
            outputs = panel * wide
            for row in range(min(rows, height - above)):
                for near in range(0, width, pixels):
                    # The last pixels of a row are worked on from its end.
                    column = min(near, width - pixels)
                    place = base + row * pitch + column
                    sums = begin(bias, outputs, pixels, lanes, vectors)
                    for k in range(kept):
                        weight = (panel * kept + k) * wide
                        sums = add_position(
                            sums, weights, weight, source, begins[k] + place, vectors
                        )
                    into = ((image * out + outputs) * height + above + row) * width + column
                    put(y, into, height * width, out - outputs, sums, vectors)

    return loops
