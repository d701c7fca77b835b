"""Products of a bitmap matrix with one sample or a few, straight from its bits and values.

A tile of 8 x 16 entries (products/bitmap_tiles.py) is one vector: the values, one after the other,
are put where its bits are set, and the 16 entries of x that it meets are repeated for its 8 rows.

Bytes moved: 4 an entry that is kept, one bit for each. Operations: 2 for each entry and sample,
zeros too. The values are fetched ahead: without that, memory gives them at half the rate or less.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import compiled, share
from .tile import HOST
from .vectors import add, expanded, fetch, load, ones, repeated, splat, store, sum_of, times

EXPANDS = HOST.lanes == 16
"""Whether this processor has an instruction that puts values where bits are set (AVX-512)."""

_ROWS, _COLUMNS, _TILES, _WORDS = 8, 16, 8, 4
_LANES = _ROWS * _COLUMNS
# Values ahead of those that are read, to be fetched from memory.
_AHEAD = 1024
# Entries, zeros too, and samples for which a thread pays.
_WORTH_A_THREAD = 1 << 21

Floats = NDArray[np.float32]


def multiply(
    words: NDArray[Any], offsets: NDArray[Any], values: Floats, x: Floats, bias: Floats, y: Floats
) -> None:
    """Write x W^T + bias to y [n, out], of any strides, for W as `BitmapTiles`.

    x [n, 128 * chunks] is contiguous.
    """
    rows = partial(_one if len(x) == 1 else _two, words, offsets, values, x, bias, y)
    share(rows, len(offsets), x.size * len(offsets) * _ROWS // _WORTH_A_THREAD)


@compiled()
def _write(sums: Any, row: Any, bias: Any, y: Any) -> None:
    """Add up the tile of each row and write it to y [out], from `row` on."""
    for i in range(min(_ROWS, len(y) - row)):
        y[row + i] = bias[row + i] + sum_of(load(sums, i * _COLUMNS, _COLUMNS))


def _for(samples: int) -> Callable[..., None]:
    """For one sample, or two at a time that share what is read of W."""

    @compiled("void(i4[:, :, ::1], i4[:, ::1], f4[::1], f4[:, ::1], f4[::1], f4[:, :], i8, i8)")
    def rows(
        words: Any, offsets: Any, values: Any, x: Any, bias: Any, y: Any, first: Any, end: Any
    ) -> None:
        sums = np.empty(_LANES, np.float32)
        last = len(x) - 1
        for strip in range(first, end):
            for s in range(0, len(x), samples):
                one, other = x[s], x[min(s + 1, last)]
                a, b = splat(np.float32(0), _LANES), splat(np.float32(0), _LANES)
                for chunk in range(offsets.shape[1]):
                    bits, at = words[strip, chunk], np.int64(offsets[strip, chunk])
                    for tile in range(_TILES):
                        fetch(values, at + _AHEAD, _LANES)
                        w = expanded(values, at, bits, tile * _WORDS, _LANES)
                        column = (chunk * _TILES + tile) * _COLUMNS
                        a = add(a, times(w, repeated(load(one, column, _COLUMNS), _LANES)))
                        if samples == 2:
                            b = add(b, times(w, repeated(load(other, column, _COLUMNS), _LANES)))
                        at += ones(bits, tile * _WORDS, _LANES)
                store(sums, 0, a)
                _write(sums, strip * _ROWS, bias, y[s])
                if samples == 2 and s < last:
                    store(sums, 0, b)
                    _write(sums, strip * _ROWS, bias, y[s + 1])

    return rows


_one, _two = _for(1), _for(2)
