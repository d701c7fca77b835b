"""Convolution of images with scattered weights (CSR): no patches, all sums in registers.

The images are worked on in pieces (see `pieces`), whose outputs lie in one line, rows of pixels
apart by the tile's pitch: a weight adds its product with a run of the tile to all outputs of a
channel. Some hundred outputs at a time have their sums in registers over all weights of their
channel. What comes out between two rows is dropped.

Bytes moved, with 4 an entry: 2 * 4 * channels * pixels for the tiles, and 4 for every weight and
pixel out of the second-level cache, mostly over the border of two of its lines, which bounds the
speed at half the processor's; operations: 2 * weights * pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .jit import compiled
from .pieces import SIGNATURE, Pieces, Walk, copy, filled_tile
from .runs import add_run, begin_run, put_run
from .tile import HOST

# Vectors of sums: more of them read a weight less often.
_VECTORS = 8
# Channels of outputs in a unit of work.
_CHANNELS = 16
# Operations that pay for another thread.
_WORTH_A_THREAD = 5_000_000


@dataclass(frozen=True, eq=False)
class Plan:
    """How images of one size are worked on: `vectors` of outputs at a time.

    `begins`, int32 [nnz], says where in a piece's tile each weight's run begins.
    """

    pieces: Pieces
    begins: NDArray[np.int32]
    vectors: int

    @classmethod
    def of(
        cls, walks: tuple[Walk, Walk], columns: Tensor, shape: torch.Size, outputs: tuple[int, ...]
    ) -> Self:
        """For images of `shape` [n, c, h, w]; `columns`, integers [nnz], as those of the matrix."""
        most = _VECTORS * HOST.lanes
        pieces, begins = Pieces.of(walks, columns, shape, outputs, run=most)
        count = (pieces.rows - 1) * pieces.pitch + outputs[1]
        vectors = -(-count // (-(-count // most) * HOST.lanes))
        return cls(pieces, begins.astype(np.int32), vectors)


def convolve(
    x: Tensor, crow: Tensor, values: Tensor, bias: Tensor | None, y: Tensor, plan: Plan
) -> None:
    """Write the convolution of x [n, c, h, w] with a CSR weight to y [n, out, height, width].

    Both contiguous and float32, as is `values` [nnz]; `crow` int32 [out + 1], `bias` [out] or None.
    """
    out = len(crow) - 1
    offset = values.new_zeros(out) if bias is None else bias.detach()
    arrays = crow.numpy(), plan.begins, values.detach().numpy(), offset.contiguous().numpy()
    operations = 2 * len(values) * y[:, 0].numel()
    plan.pieces.work(
        _loops(plan.vectors, HOST.lanes),
        x,
        -(-out // _CHANNELS),
        operations // _WORTH_A_THREAD,
        *arrays,
        y.view(-1).numpy(),
    )


def prepare() -> None:
    """Make the loops for all but very small images."""
    for vectors in (_VECTORS, _VECTORS - 1):
        _loops(vectors, HOST.lanes)


@cache
def _loops(vectors: int, lanes: int) -> Any:
    """The loops for so many vectors at a time: both are constants in them."""

    @compiled(f"void({SIGNATURE}, i4[::1], i4[::1], f4[::1], f4[::1], f4[::1], i8, i8)")
    def loops(
        x: Any,
        channels: Any,
        sizes: Any,
        tile: Any,
        filled: Any,
        crow: Any,
        begins: Any,
        values: Any,
        bias: Any,
        y: Any,
        first: Any,
        end: Any,
    ) -> None:
        rows, pitch = sizes[0], sizes[2]
        height, width = sizes[-2:]
        out = len(bias)
        units = -(-out // _CHANNELS)
        line = np.empty(vectors * lanes, np.float32)
        for unit in range(first, end):
            source, base, image, above = filled_tile(
                x, channels, sizes, tile, filled, unit // units
            )
            outputs = unit % units * _CHANNELS
            count = (min(rows, height - above) - 1) * pitch + width
            for near in range(0, count, len(line)):
                # Nothing lies behind an image that is its own tile.
                place = near if len(tile) else min(near, count - len(line))
                for o in range(outputs, min(outputs + _CHANNELS, out)):
                    sums = begin_run(bias[o], vectors, lanes)
                    for k in range(crow[o], crow[o + 1]):
                        sums = add_run(sums, values[k], source, begins[k] + base + place)
                    put_run(line, sums)
                    into = (image * out + o) * height + above
                    _put(line, place, min(len(line), count - place), pitch, width, into, y)

    return loops


@compiled()
def _put(line: Any, place: Any, count: Any, pitch: Any, width: Any, into: Any, y: Any) -> None:
    """Write outputs from `place` of a piece on to its rows: y is [rows, width] from row `into`."""
    row, column, at = place // pitch, place % pitch, 0
    while at < count:
        more = min(width - column, count - at)
        if more > 0:
            copy(line, at, 1, y, (into + row) * width + column, more)
        at += pitch - column
        row, column = row + 1, 0
