"""Images in pieces: some rows of outputs, and the inputs that they read in a padded tile.

The tile is [channels, stride down, stride across, lines, pitch]: with a stride, what outputs read
with the same step lies together. So what a kept position contributes to neighbouring outputs is a
run of the tile, from a place that its column of the GEMM view alone decides, and the outputs of the
line below read a pitch further on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from threading import local
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .jit import compiled, share
from .vectors import load, load_other, store

# Bytes of a tile: it stays in the second-level cache.
_TILE = 1 << 20
# Pixels of a piece that pay for going through all weights once more, to share the work evenly.
_FEWEST = 256
# Entries that are copied at once.
_RUN, _SHORT_RUN = 16, 4

Floats = NDArray[np.float32]
Longs = NDArray[np.int64]
Walk = tuple[int, int, int, int, int]
"""Kernel, stride, dilation, and padding before and after, along one dimension."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """How images of one size are cut: `rows` of outputs at a time, `each` pieces an image.

    `channels` [n] are copied into the tile of `entries`; `sizes` is what loops need to know. An
    input that is its own tile has no entries.
    """

    rows: int
    each: int
    pitch: int
    channels: Longs
    entries: int
    sizes: Longs

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of an image of outputs."""
        return int(self.sizes[-2]), int(self.sizes[-1])

    @classmethod
    def of(
        cls,
        walks: tuple[Walk, Walk],
        columns: Tensor,
        shape: torch.Size,
        outputs: tuple[int, ...],
        *,
        run: int = 1,
    ) -> tuple[Self, Longs]:
        """For images of `shape` [n, c, h, w], and where `columns` (integers) begin in the tile.

        `columns` are those of the GEMM view that are read. Loops may read `run` entries from any
        place of the tile on; of an input that is its own tile all pieces have so many outputs.
        """
        (kernel, stride, dilation, *around), (taps, step, far, left, right) = walks
        position, across = columns.long() // taps, columns.long() % taps * far
        channels, channel = torch.unique(position // kernel, return_inverse=True)
        down = position % kernel * dilation
        more = dilation * (kernel - 1) // stride
        pitch = -(-(shape[3] + left + right) // step)
        line = 4 * max(1, len(channels)) * stride * step * pitch
        share_of_thread = -(-outputs[0] * shape[0] // torch.get_num_threads())
        rows = min(outputs[0], _TILE // line - more, max(share_of_thread, _FEWEST // outputs[1]))
        rows = max(1, rows)
        each = -(-outputs[0] // rows)
        lines = rows + more
        fewest = (outputs[0] - (each - 1) * rows - 1) * pitch + outputs[1]
        whole = stride == step == 1 and not any((*around, left, right)) and fewest >= run
        if whole:
            lines, channel = shape[2], channels[channel]
        phase = down % stride * step + across % step
        begins = ((channel * stride * step + phase) * lines + down // stride) * pitch
        begins += across // step
        entries = 0 if whole else len(channels) * stride * step * lines * pitch + run
        sizes = [rows, lines, pitch, stride, step, around[0], left, math.prod(shape[1:])]
        found = np.array([*sizes, *shape[2:], *outputs], np.int64)
        return cls(rows, each, pitch, channels.numpy(), entries, found), begins.numpy()

    def work(
        self, loops: Callable[..., None], x: Tensor, units: int, most: int, *arrays: Any
    ) -> None:
        """Call `loops(x, channels, sizes, tile, filled, *arrays, first, end)` in several threads.

        There are `units` in each piece of x [n, c, h, w], float32 and contiguous. A thread keeps
        its `tile`, and `filled` says which piece was last copied there.
        """
        given, of_thread = x.detach().view(-1).numpy(), local()

        def some(first: int, end: int) -> None:
            if not hasattr(of_thread, "tile"):
                of_thread.tile = np.zeros(self.entries, np.float32), np.array([-1])
            loops(given, self.channels, self.sizes, *of_thread.tile, *arrays, first, end)

        share(some, len(x) * self.each * units, most)


SIGNATURE = "f4[::1], i8[::1], i8[::1], f4[::1], i8[::1]"
"""Types of what loops are given first, by `Pieces.work`."""


@compiled()
def filled_tile(
    x: Any, channels: Any, sizes: Any, tile: Any, filled: Any, piece: Any
) -> tuple[Any, int, int, int]:
    """The tile of a piece and where the piece begins in it; its image and first row of outputs."""
    rows, lines, pitch, stride, step, top, left, image_size, height, width, outputs = sizes[:11]
    each = -(-outputs // rows)
    image, above = piece // each, piece % each * rows
    if not len(tile):
        return x, image * image_size + above * pitch, image, above
    if piece != filled[0]:
        filled[0] = piece
        at = 0
        for channel in channels:
            for down in range(stride):
                for across in range(step):
                    # Columns of the input from here on, every step-th.
                    first = (across - left) % step
                    place = (first + left) // step
                    count = -(-(width - first) // step)
                    for line in range(lines):
                        row = (above + line) * stride + down - top
                        if 0 <= row < height:
                            start = image * image_size + (channel * height + row) * width + first
                            copy(x, start, step, tile, at + place, count)
                        else:
                            tile[at : at + pitch] = 0
                        at += pitch
    return tile, 0, image, above


@compiled()
def copy(source: Any, first: Any, step: Any, target: Any, place: Any, count: Any) -> None:
    """Copy every step-th entry from `first` on, `count` of them, to a run from `place` on."""
    if step == 1 and count >= _RUN:
        for near in range(0, count, _RUN):
            at = min(near, count - _RUN)
            store(target, place + at, load(source, first + at, _RUN))
    elif step == 1 and count >= _SHORT_RUN:
        for near in range(0, count, _SHORT_RUN):
            at = min(near, count - _SHORT_RUN)
            store(target, place + at, load(source, first + at, _SHORT_RUN))
    elif step == 2 and count >= _RUN:
        for near in range(0, count, _RUN):
            at = min(near, count - _RUN)
            store(target, place + at, load_other(source, first + 2 * at, _RUN))
    else:
        for at in range(count):
            target[place + at] = source[first + at * step]
