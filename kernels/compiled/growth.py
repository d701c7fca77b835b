"""Where a CSR matrix has no entry: the places of largest gradient, by number, and by chance.

Bytes of a block of the gradient, which stays in the cache: 4 an entry to read twice; 8 to write one
that is larger than what so many others are already known to be. Places by chance: a bit for each
that there is, and 16 bytes for each that is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .jit import compiled, share

_WORTH_A_THREAD = 1 << 17

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class Best:
    """The `count` values of largest size where W[out, in], in CSR, has no entry; no zeros.

    Of equal ones those that were added first. They are held as CSR is, at most twice as many and a
    block: memory that was not used before costs more than what is done with it.
    """

    def __init__(self, crow: Tensor, columns: Tensor, rows: Tensor, count: int) -> None:
        """`rows` int64 [k] are those of the blocks that will come, ascending."""
        self._structure, self._rows = (crow.numpy(), columns.numpy()), rows.numpy()
        self._lengths, self._done = np.zeros(len(rows), np.int64), 0
        self._count, self._floor, self._held = count, np.float32(0), 0
        self._columns, self._values = _room(0)

    def add(self, block: Tensor) -> None:
        """Take the next rows, float32 [rows, in], not more than the first time; written to."""
        if not self._done:
            most = len(self._rows) * block.shape[1]
            room = min(most, 2 * self._count + block.numel())
            self._columns, self._values = _room(room)
        given, threads = block.numpy(), block.numel() // _WORTH_A_THREAD
        part = slice(self._done, self._done + len(given))
        rows, lengths = self._rows[part], self._lengths[part]
        share(lambda a, b: _clear(*self._structure, rows, given, a, b), len(given), threads)
        share(lambda a, b: _tally(given, self._floor, lengths, a, b), len(given), threads)
        if lengths.sum() > 2 * self._count:
            # No more than so many of one block can be among the best.
            cut = _cut(given, self._count)
            self._floor = max(self._floor, np.nextafter(cut, np.float32(0)))
            share(lambda a, b: _tally(given, self._floor, lengths, a, b), len(given), threads)
        ends = self._held + np.cumsum(lengths)
        made = given, self._floor, ends - lengths, ends, self._columns, self._values
        share(lambda a, b: _take(*made, a, b), len(given), threads)
        self._held, self._done = int(ends[-1]), part.stop
        if self._held > 2 * self._count:
            self._settle()

    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows and columns, int64, and values, in the order in which they were added."""
        self._settle()
        rows = np.repeat(self._rows, self._lengths)
        columns, values = self._columns[: self._held], self._values[: self._held]
        return torch.from_numpy(rows), torch.from_numpy(columns).long(), torch.from_numpy(values)

    def _settle(self) -> None:
        """Keep only the largest."""
        if self._held <= self._count:
            return
        values = self._values[: self._held]
        self._floor = _cut(values, self._count)
        larger = int(np.count_nonzero(np.abs(values) > self._floor))
        _shrink(self._lengths, self._columns, self._values, self._floor, self._count - larger)
        self._held = self._count


def largest_but(values: Tensor, count: int) -> float:
    """The largest size of float32 values, 1-d and contiguous, but for `count` others."""
    return float(_cut(values.numpy(), count + 1))


def _cut(values: Floats, count: int) -> np.float32:
    """The size of the `count`-th largest, found by counting some bits of all at a time.

    Unlike what compares values, this takes as long where most of them are equal.
    """
    if not count:
        return np.float32(np.inf)
    bits = values.reshape(-1).view(np.int32)
    parts = max(1, min(torch.get_num_threads(), len(bits) // _WORTH_A_THREAD))
    found, left = 0, count
    for shift, width in ((20, 11), (9, 11), (0, 9)):
        counts = np.zeros((parts, 1 << width), np.int64)
        given = bits, found, shift, width, counts
        share(partial(_histogram, *given), parts, parts)
        above = np.cumsum(counts.sum(0)[::-1])
        place = int(np.searchsorted(above, left))
        left -= int(above[place - 1]) if place else 0
        found = found << width | (1 << width) - 1 - place
    return np.int32(found).view(np.float32)


def free(crow: Tensor, columns: Tensor, ins: int, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns, int64, of places without an entry: `numbers` count these, and ascend."""
    rows, found = (np.empty(len(numbers), np.int64) for _ in range(2))
    _free(crow.numpy(), columns.numpy(), ins, numbers.numpy(), rows, found)
    return torch.from_numpy(rows), torch.from_numpy(found)


def distinct(total: int, count: int, draw: Callable[[int], Tensor]) -> Tensor:
    """`count` different numbers below `total` out of so many as `draw` gives; int64, ascending."""
    bits, missing = np.zeros(-(-total // 8), np.uint8), count
    while missing:
        missing -= _mark(bits, draw(missing).numpy())
    found = np.empty(count, np.int64)
    _read(bits, found)
    return torch.from_numpy(found)


def _room(entries: int) -> tuple[Ints, Floats]:
    return np.empty(entries, np.int32), np.empty(entries, np.float32)


@compiled("void(i4[::1], i8, i8, i8, i8[:, ::1], i8, i8)")
def _histogram(
    bits: Ints, upper: int, shift: int, width: int, counts: Longs, first: int, end: int
) -> None:
    """Count `width` bits from `shift` on of the sizes whose upper bits are `upper`."""
    each = -(-len(bits) // len(counts))
    for part in range(first, end):
        for place in range(part * each, min((part + 1) * each, len(bits))):
            size = bits[place] & 0x7FFFFFFF
            if size >> (shift + width) == upper:
                counts[part, size >> shift & ((1 << width) - 1)] += 1


@compiled("void(i4[::1], i4[::1], i8[::1], f4[:, ::1], i8, i8)")
def _clear(crow: Ints, columns: Ints, rows: Longs, block: Floats, first: int, end: int) -> None:
    """Set what has an entry to zero."""
    for at in range(first, end):
        for place in range(crow[rows[at]], crow[rows[at] + 1]):
            block[at, columns[place]] = 0


@compiled("void(f4[:, ::1], f4, i8[::1], i8, i8)")
def _tally(block: Floats, floor: np.float32, lengths: Longs, first: int, end: int) -> None:
    """How many are larger than `floor`."""
    for at in range(first, end):
        count = 0
        for column in range(block.shape[1]):
            count += abs(block[at, column]) > floor
        lengths[at] = count


@compiled("void(f4[:, ::1], f4, i8[::1], i8[::1], i4[::1], f4[::1], i8, i8)")
def _take(
    block: Floats, floor: np.float32, starts: Longs, ends: Longs, columns: Ints, values: Floats,
    first: int, end: int,
) -> None:  # fmt: skip
    for at in range(first, end):
        to, last, column = starts[at], ends[at], 0
        # What is too small is written too, and then written over: no branch to guess.
        while to < last:
            columns[to], values[to] = column, block[at, column]
            to += abs(block[at, column]) > floor
            column += 1


@compiled("void(i8[::1], i4[::1], f4[::1], f4, i8)")
def _shrink(lengths: Longs, columns: Ints, values: Floats, floor: np.float32, equal: int) -> None:
    """Keep what is larger than `floor`, and the first `equal` of that size, in place."""
    to, place = 0, 0
    for row in range(len(lengths)):
        start, stop = to, place + lengths[row]
        while place < stop:
            size = abs(values[place])
            columns[to], values[to] = columns[place], values[place]
            stays = (size > floor) | ((size == floor) & (equal > 0))
            equal -= size == floor
            to += stays
            place += 1
        lengths[row] = to - start


@compiled("void(i4[::1], i4[::1], i8, i8[::1], i8[::1], i8[::1])")
def _free(crow: Ints, columns: Ints, ins: int, numbers: Longs, rows: Longs, found: Longs) -> None:
    row, place, before = 0, 0, 0
    for at in range(len(numbers)):
        # Of this row's places without an entry, `before` lie in front of it.
        while numbers[at] - before >= ins - (crow[row + 1] - crow[row]):
            before += ins - (crow[row + 1] - crow[row])
            row += 1
            place = crow[row]
        column = numbers[at] - before + (place - crow[row])
        while place < crow[row + 1] and columns[place] <= column:
            place += 1
            column += 1
        rows[at], found[at] = row, column


@compiled("i8(u1[::1], i8[::1])")
def _mark(bits: Bytes, numbers: Longs) -> int:
    """Set the bits of some numbers; how many were not set before."""
    new = 0
    for number in numbers:
        bit = np.uint8(1 << (number & 7))
        new += bits[number >> 3] & bit == 0
        bits[number >> 3] |= bit
    return new


@compiled("void(u1[::1], i8[::1])")
def _read(bits: Bytes, found: Longs) -> None:
    """The numbers of the bits that are set."""
    at = 0
    for place in range(len(bits)):
        if bits[place]:
            for bit in range(8):
                if bits[place] >> bit & 1:
                    found[at] = 8 * place + bit
                    at += 1
