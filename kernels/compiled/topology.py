"""A CSR matrix whose small entries go and in which others come, and the order of its transpose.

Bytes of an update: 8 an entry to count, 8 to read and 12 to write an entry that stays. Each row is
one walk along its own entries and those that come, so that threads share the rows out.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .jit import compiled, share

_WORTH_A_THREAD = 1 << 18

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Floats = NDArray[np.float32]


def merged(
    crow: Tensor, columns: Tensor, values: Tensor, threshold: float,
    grown: Tensor, grown_columns: Tensor, grown_values: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:  # fmt: skip
    """The parts of the new matrix, each entry's old place or -1, and how many came where one stays.

    Of W[out, in] in CSR, int32 [out + 1] and [entries], float32 [entries], what has |w| <=
    `threshold` goes; what comes is in CSR too, `grown` int64 [out + 1], ascending in each row. The
    new row starts are int64. Where the last number is not zero the rest means nothing.
    """
    rows = len(crow) - 1
    arrays = crow.numpy(), columns.numpy(), values.numpy()
    come = grown.numpy(), grown_columns.numpy(), grown_values.numpy()
    lengths, clashes = np.empty(rows, np.int64), np.zeros(rows, np.int64)
    most = max(1, len(values) // _WORTH_A_THREAD)
    limit = np.float32(threshold)
    share(lambda a, b: _count(*arrays, limit, *come[:2], lengths, clashes, a, b), rows, most)
    starts = np.zeros(rows + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    total = int(starts[-1])
    made = np.empty(total, np.int32), np.empty(total, np.float32), np.empty(total, np.int32)
    if not (problems := int(clashes.sum())):
        share(lambda a, b: _merge(*arrays, limit, *come, starts, *made, a, b), rows, most)
    new_columns, new_values, sources = (torch.from_numpy(array) for array in made)
    return torch.from_numpy(starts), new_columns, new_values, sources, problems


def turned(crow: Tensor, columns: Tensor, ins: int) -> tuple[Tensor, Tensor, Tensor]:
    """The CSR structure of W^T and the place of each of its entries among those of W, all int32."""
    starts = np.zeros(ins + 1, np.int32)
    rows, places = (np.empty(len(columns), np.int32) for _ in range(2))
    _turn(crow.numpy(), columns.numpy(), starts, rows, places)
    return torch.from_numpy(starts), torch.from_numpy(rows), torch.from_numpy(places)


@compiled("void(i4[::1], i4[::1], f4[::1], f4, i8[::1], i4[::1], i8[::1], i8[::1], i8, i8)")
def _count(
    crow: Ints, columns: Ints, values: Floats, threshold: np.float32, grown: Longs,
    grown_columns: Ints, lengths: Longs, clashes: Longs, first: int, end: int,
) -> None:  # fmt: skip
    """How many entries each row has afterwards, and how many that come are there already."""
    for row in range(first, end):
        count, clashing, at = 0, 0, grown[row]
        for place in range(crow[row], crow[row + 1]):
            if not abs(values[place]) > threshold:
                continue
            count += 1
            while at < grown[row + 1] and grown_columns[at] < columns[place]:
                at += 1
            if at < grown[row + 1] and grown_columns[at] == columns[place]:
                clashing += 1
        lengths[row] = count + grown[row + 1] - grown[row]
        clashes[row] = clashing


@compiled(
    "void(i4[::1], i4[::1], f4[::1], f4, i8[::1], i4[::1], f4[::1], i8[::1], i4[::1], f4[::1], "
    "i4[::1], i8, i8)"
)
def _merge(
    crow: Ints, columns: Ints, values: Floats, threshold: np.float32, grown: Longs,
    grown_columns: Ints, grown_values: Floats, starts: Longs, new_columns: Ints,
    new_values: Floats, sources: Ints, first: int, end: int,
) -> None:  # fmt: skip
    for row in range(first, end):
        to, at, last = starts[row], grown[row], grown[row + 1]
        for place in range(crow[row], crow[row + 1]):
            if not abs(values[place]) > threshold:
                continue
            column = columns[place]
            while at < last and grown_columns[at] < column:
                new_columns[to], new_values[to], sources[to] = (
                    grown_columns[at],
                    grown_values[at],
                    -1,
                )
                to += 1
                at += 1
            new_columns[to], new_values[to], sources[to] = column, values[place], place
            to += 1
        while at < last:
            new_columns[to], new_values[to], sources[to] = grown_columns[at], grown_values[at], -1
            to += 1
            at += 1


@compiled("void(i4[::1], i4[::1], i4[::1], i4[::1], i4[::1])")
def _turn(crow: Ints, columns: Ints, starts: Ints, rows: Ints, places: Ints) -> None:
    """Sort by columns, by counting; `starts` comes as zeros."""
    for column in columns:
        starts[column + 1] += 1
    for column in range(1, len(starts)):
        starts[column] += starts[column - 1]
    free = starts[:-1].copy()
    for row in range(len(crow) - 1):
        for place in range(crow[row], crow[row + 1]):
            to = free[columns[place]]
            free[columns[place]] = to + 1
            rows[to] = row
            places[to] = place
