"""A CSR matrix whose small entries go and in which others come, and the order of its transpose.

Bytes: 8 an entry to count what stays, 8 to read and 12 to write one that does; as much again where
others come; 12 to read and 8 to write an entry of the transpose. Each row is one walk along its own
entries and those that come, so that threads share the rows out, and nothing depends on how many.
"""

from __future__ import annotations

from typing import NamedTuple

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


class Made(NamedTuple):
    """The parts of a new matrix in CSR and the old place of each entry, -1 if it is new.

    int32 [out + 1] and [entries], the values float32.
    """

    crow: Tensor
    columns: Tensor
    values: Tensor
    sources: Tensor


def survivors(crow: Tensor, columns: Tensor, values: Tensor, threshold: float) -> Made:
    """What has |w| > `threshold`.

    Of W[out, in] in CSR, int32 [out + 1] and [entries], float32 [entries].
    """
    rows, most = len(crow) - 1, len(values) // _WORTH_A_THREAD
    arrays = crow.numpy(), columns.numpy(), values.numpy()
    limit, starts = np.float32(threshold), np.zeros(rows + 1, np.int32)
    share(lambda a, b: _count(arrays[0], arrays[2], limit, starts, a, b), rows, most)
    np.cumsum(starts, dtype=np.int32, out=starts)
    made = _room(int(starts[-1]))
    share(lambda a, b: _keep(*arrays, limit, starts, *made, a, b), rows, most)
    return Made(torch.from_numpy(starts), *map(torch.from_numpy, made))


def merged(
    left: Made, grown_rows: Tensor, grown_columns: Tensor, grown_values: Tensor, ins: int
) -> tuple[Made | None, int]:
    """W[out, in] with what comes; and how many come where an entry is.

    Rows and columns of what comes are int64. None where these are outside of W, out of order or
    there twice; where some come where an entry is, what is made means nothing.
    """
    rows, total = len(left.crow) - 1, len(left.values) + len(grown_values)
    grown, narrow = np.zeros(rows + 1, np.int32), np.empty(len(grown_values), np.int32)
    if not _opened(grown_rows.numpy(), grown_columns.numpy(), ins, grown, narrow):
        return None, 0
    came = grown, narrow, grown_values.numpy()
    clashes, made = np.zeros(rows, np.int32), _room(total)
    crow, columns, values, sources = (part.numpy() for part in left)
    arrays = crow, columns, values, sources
    most = total // _WORTH_A_THREAD
    share(lambda a, b: _merge(*arrays, *came, *made, clashes, a, b), rows, most)
    starts = torch.from_numpy(crow + grown)
    return Made(starts, *map(torch.from_numpy, made)), int(clashes.sum())


def carried(sources: Tensor, state: Tensor) -> Tensor:
    """``state[sources]``, and 0 where that is negative; int32 [new] and [old], both 1-d."""
    made = np.empty(len(sources), np.int32)
    arrays = sources.numpy(), state.numpy(), made
    share(lambda a, b: _carry(*arrays, a, b), len(made), len(made) // _WORTH_A_THREAD)
    return torch.from_numpy(made)


def turned(crow: Tensor, columns: Tensor, ins: int) -> tuple[Tensor, Tensor, Tensor]:
    """The CSR structure of W^T and the place of each of its entries among those of W, all int32.

    Sorts by columns, by counting: each thread the entries of its own rows, for which it knows where
    in each column they begin.
    """
    entries = len(columns)
    parts = max(1, min(torch.get_num_threads(), entries // _WORTH_A_THREAD))
    arrays = crow.numpy(), columns.numpy()
    bounds = np.searchsorted(arrays[0], np.arange(parts + 1) * entries // parts)
    counts = np.zeros((parts, ins), np.int32)
    share(lambda a, b: _tally(*arrays, bounds, counts, a, b), parts, parts)
    starts = np.zeros(ins + 1, np.int32)
    np.cumsum(counts.sum(0), dtype=np.int32, out=starts[1:])
    free = starts[:-1] + np.cumsum(counts, 0, dtype=np.int32) - counts
    rows, places = (np.empty(entries, np.int32) for _ in range(2))
    share(lambda a, b: _turn(*arrays, bounds, free, rows, places, a, b), parts, parts)
    return torch.from_numpy(starts), torch.from_numpy(rows), torch.from_numpy(places)


def packed(crow: Tensor, columns: Tensor, ins: int) -> Tensor:
    """See `formats.bits.pack_structure`."""
    rows = len(crow) - 1
    bits = np.zeros((rows * ins + 7) // 8, np.uint8)
    arrays = crow.numpy(), columns.numpy(), ins, bits
    # Only after eight rows a byte is full for sure, and no two threads may write to one.
    share(lambda a, b: _pack(*arrays, a, b), -(-rows // 8), len(columns) // _WORTH_A_THREAD)
    return torch.from_numpy(bits)


def _room(entries: int) -> tuple[Ints, Floats, Ints]:
    return np.empty(entries, np.int32), np.empty(entries, np.float32), np.empty(entries, np.int32)


@compiled("void(i4[::1], f4[::1], f4, i4[::1], i8, i8)")
def _count(
    crow: Ints, values: Floats, threshold: np.float32, starts: Ints, first: int, end: int
) -> None:
    for row in range(first, end):
        count = 0
        for place in range(crow[row], crow[row + 1]):
            count += abs(values[place]) > threshold
        starts[row + 1] = count


@compiled("void(i4[::1], i4[::1], f4[::1], f4, i4[::1], i4[::1], f4[::1], i4[::1], i8, i8)")
def _keep(
    crow: Ints, columns: Ints, values: Floats, threshold: np.float32, starts: Ints,
    new_columns: Ints, new_values: Floats, sources: Ints, first: int, end: int,
) -> None:  # fmt: skip
    for row in range(first, end):
        to, last, place = starts[row], starts[row + 1], crow[row]
        # What goes is written too, and then written over: no branch to guess.
        while to < last:
            new_columns[to], new_values[to], sources[to] = columns[place], values[place], place
            to += abs(values[place]) > threshold
            place += 1


@compiled("b1(i8[::1], i8[::1], i8, i4[::1], i4[::1])")
def _opened(rows: Longs, columns: Longs, ins: int, starts: Ints, narrow: Ints) -> bool:
    """Whether entries lie in row order; where rows start among them, which comes as zeros."""
    row, column = 0, -1
    for at in range(len(rows)):
        if rows[at] != row:
            if not row < rows[at] < len(starts) - 1:
                return False
            row, column = rows[at], -1
        if not column < columns[at] < ins:
            return False
        column = columns[at]
        narrow[at] = column
        starts[row + 1] += 1
    for line in range(1, len(starts)):
        starts[line] += starts[line - 1]
    return True


@compiled(
    "void(i4[::1], i4[::1], f4[::1], i4[::1], i4[::1], i4[::1], f4[::1], i4[::1], f4[::1], "
    "i4[::1], i4[::1], i8, i8)"
)
def _merge(
    crow: Ints, columns: Ints, values: Floats, before: Ints, grown: Ints, grown_columns: Ints,
    grown_values: Floats, new_columns: Ints, new_values: Floats, sources: Ints, clashes: Ints,
    first: int, end: int,
) -> None:  # fmt: skip
    for row in range(first, end):
        place, stop, at, last = crow[row], crow[row + 1], grown[row], grown[row + 1]
        to = place + at
        while place < stop and at < last:
            old, new = columns[place], grown_columns[at]
            if new < old:
                new_columns[to], new_values[to], sources[to] = new, grown_values[at], -1
                at += 1
            else:
                new_columns[to], new_values[to], sources[to] = old, values[place], before[place]
                place += 1
                clashes[row] += new == old
            to += 1
        for rest in range(stop - place):
            new_columns[to + rest] = columns[place + rest]
            new_values[to + rest] = values[place + rest]
            sources[to + rest] = before[place + rest]
        for rest in range(last - at):
            new_columns[to + rest] = grown_columns[at + rest]
            new_values[to + rest] = grown_values[at + rest]
            sources[to + rest] = -1


@compiled("void(i4[::1], i4[::1], i4[::1], i8, i8)")
def _carry(sources: Ints, state: Ints, made: Ints, first: int, end: int) -> None:
    for at in range(first, end):
        made[at] = state[sources[at]] if sources[at] >= 0 else 0


@compiled("void(i4[::1], i4[::1], i8[::1], i4[:, ::1], i8, i8)")
def _tally(crow: Ints, columns: Ints, bounds: Longs, counts: Ints, first: int, end: int) -> None:
    for part in range(first, end):
        for place in range(crow[bounds[part]], crow[bounds[part + 1]]):
            counts[part, columns[place]] += 1


@compiled("void(i4[::1], i4[::1], i8[::1], i4[:, ::1], i4[::1], i4[::1], i8, i8)")
def _turn(
    crow: Ints, columns: Ints, bounds: Longs, free: Ints, rows: Ints, places: Ints,
    first: int, end: int,
) -> None:  # fmt: skip
    for part in range(first, end):
        for row in range(bounds[part], bounds[part + 1]):
            for place in range(crow[row], crow[row + 1]):
                to = free[part, columns[place]]
                free[part, columns[place]] = to + 1
                rows[to], places[to] = row, place


@compiled("void(i4[::1], i4[::1], i8, u1[::1], i8, i8)")
def _pack(crow: Ints, columns: Ints, ins: int, bits: Bytes, first: int, end: int) -> None:
    for row in range(8 * first, min(8 * end, len(crow) - 1)):
        for place in range(crow[row], crow[row + 1]):
            at = row * ins + columns[place]
            bits[at >> 3] |= np.uint8(1 << (at & 7))
