"""N of every M without sorting: 64 runs at a time, one in each lane of a vector.

A row's runs are turned so that vectors hold the entries at one place of 64 runs. A sorting network
(Batcher's odd-even merge, without what the cut does not need) puts the n-th highest of each run at
one place, by nothing but the lower and the higher of two vectors. What reaches it is kept; only
where entries equal the cut are they counted out, from the last of a run to its first. What is kept
is turned back as bytes.

Bytes moved: 4 read and 1 written an entry. Operations of a vector of 64: about 20 at 8:32.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .jit import compiled, share
from .vectors import (
    above,
    add,
    as_bytes,
    evens,
    heads,
    higher,
    largest,
    less,
    load,
    lower,
    odds,
    reach,
    splat,
    store,
    tails,
    times,
)

_LANES = 64
# Entries for which a thread pays.
_WORTH_A_THREAD = 1 << 18


def keep_n_of_m(scores: Tensor, n: int, m: int, step: int = 1) -> Tensor:
    """`select.keep_n_of_m` on the CPU, for `m` from 2 to 64."""
    rows, columns = scores.shape
    if n >= m or n <= 0:
        return torch.full((rows, columns), n > 0)
    lines = scores.detach().float().contiguous().numpy()
    kept = torch.empty(rows, columns, dtype=torch.uint8)
    flags = kept.numpy()
    whole = columns % (m * step) == 0
    if whole:  # rows end with runs: all are one long row, to be cut anywhere between runs
        lines, flags = lines.reshape(-1, m * step), flags.reshape(-1, m * step)
    network = _network(n, m)

    def work(first: int, end: int) -> None:
        part, chosen = lines[first:end], flags[first:end]
        if whole:
            part, chosen = part.reshape(1, -1), chosen.reshape(1, -1)
        _rows(part, n, m, step, network, chosen)

    share(work, len(lines), scores.numel() // _WORTH_A_THREAD)
    return kept.view(torch.bool)


@cache
def _network(n: int, m: int) -> NDArray[np.uint8]:
    """Which two of m entries to put in order, one pair after the other: [pairs, 2].

    In the end the n-th highest is at m - n, all above behind it; the others lie as they may.
    """
    pairs = []
    size = 1
    while size < m:
        apart = size
        while apart:
            for start in range(apart % size, m - apart, 2 * apart):
                for low in range(start, min(start + apart, m - apart)):
                    if low // (2 * size) == (low + apart) // (2 * size):
                        pairs.append((low, low + apart))
            apart //= 2
        size *= 2
    needed, used = {m - n}, []
    for pair in reversed(pairs):
        if needed.intersection(pair):
            needed.update(pair)
            used.append(pair)
    return np.array(used[::-1], np.uint8).reshape(-1, 2)


@compiled()
def _copy(source: Any, start: Any, target: Any, to: Any, m: Any) -> None:
    for i in range(0, m * _LANES, _LANES):
        store(target, to + i, load(source, start + i, _LANES))


@compiled()
def _move(source: Any, start: Any, target: Any, to: Any, count: Any) -> None:
    """Copy a few entries; numba's own copies start slowly."""
    done = 0
    while done + 8 <= count:
        store(target, to + done, load(source, start + done, 8))
        done += 8
    while done < count:
        store(target, to + done, load(source, start + done, 1))
        done += 1


@compiled()
def _turn(row: Any, start: Any, room: Any, m: Any) -> int:
    """Turn [lanes, m] entries of a row to [m, lanes]; where in the room. m is a power of two."""
    half, here, there = m // 2, m * _LANES, 0
    _copy(row, start, room, here, m)
    apart = 1
    while apart < m:
        for i in range(half):
            a = load(room, here + 2 * i * _LANES, _LANES)
            b = load(room, here + (2 * i + 1) * _LANES, _LANES)
            store(room, there + i * _LANES, evens(a, b))
            store(room, there + (i + half) * _LANES, odds(a, b))
        here, there = there, here
        apart *= 2
    return here


@compiled()
def _turn_back(room: Any, m: Any, row: Any, start: Any) -> None:
    """Turn [m, lanes] bytes at the front of the room to [lanes, m] of a row."""
    half, here, there = m // 2, 0, m * _LANES
    apart = 1
    while apart < m:
        for i in range(half):
            a = load(room, here + i * _LANES, _LANES)
            b = load(room, here + (i + half) * _LANES, _LANES)
            store(room, there + 2 * i * _LANES, heads(a, b))
            store(room, there + (2 * i + 1) * _LANES, tails(a, b))
        here, there = there, here
        apart *= 2
    _copy(room, here, row, start, m)


@compiled()
def _choose(room: Any, here: Any, n: Any, m: Any, network: Any, kept: Any) -> None:
    """Write 1 for the n highest of [m, lanes] entries in the room, else 0, to [m, lanes] bytes."""
    there = m * _LANES - here
    _copy(room, here, room, there, m)
    for pair in range(len(network)):
        at, to = there + network[pair, 0] * _LANES, there + network[pair, 1] * _LANES
        a, b = load(room, at, _LANES), load(room, to, _LANES)
        store(room, at, lower(a, b))
        store(room, to, higher(a, b))
    cut = load(room, there + (m - n) * _LANES, _LANES)
    none, left = splat(np.float32(0), _LANES), splat(np.float32(n), _LANES)
    count = none
    for j in range(m):
        entries = load(room, here + j * _LANES, _LANES)
        high = reach(entries, cut)
        count = add(count, high)
        left = less(left, above(entries, cut))
        store(kept, j * _LANES, as_bytes(high))
    if largest(count) > n:  # of the entries that equal a cut too many are kept
        for j in range(m - 1, -1, -1):
            entries = load(room, here + j * _LANES, _LANES)
            over = above(entries, cut)
            tie = times(less(reach(entries, cut), over), above(left, none))
            left = less(left, tie)
            store(kept, j * _LANES, as_bytes(add(over, tie)))


@compiled()
def _pick(row: Any, first: Any, end: Any, m: Any, step: Any, room: Any) -> None:
    """Fill [m, lanes] in the room with the runs first to end of a row, in pieces side by side."""
    columns = len(row)
    if step == 1 and end * m <= columns:
        for lane in range(first, end):
            for j in range(m):
                store(room, j * _LANES + lane - first, load(row, lane * m + j, 1))
        return
    lane, start, beside = first, first // step * m * step + first % step, step - first % step
    while lane < end:
        beside = min(beside, end - lane)
        if start + (m - 1) * step + beside <= columns:
            for j in range(m):
                _move(row, start + j * step, room, j * _LANES + lane - first, beside)
        else:  # the row ends first: what it lacks is never kept
            for j in range(m):
                to = j * _LANES + lane - first
                there = max(0, min(beside, columns - start - j * step))
                _move(row, start + j * step, room, to, there)
                for lacking in range(to + there, to + beside):
                    store(room, lacking, splat(np.float32(-np.inf), 1))
        lane += beside
        start += beside + (m - 1) * step
        beside = step


@compiled()
def _put(kept: Any, m: Any, step: Any, row: Any, first: Any, end: Any) -> None:
    """Write [m, lanes] bytes to where `_pick` found their entries."""
    columns = len(row)
    if step == 1 and end * m <= columns:
        for lane in range(first, end):
            for j in range(m):
                store(row, lane * m + j, load(kept, j * _LANES + lane - first, 1))
        return
    lane, start, beside = first, first // step * m * step + first % step, step - first % step
    while lane < end:
        beside = min(beside, end - lane)
        for j in range(m):
            there = min(beside, columns - start - j * step)
            _move(kept, j * _LANES + lane - first, row, start + j * step, there)
        lane += beside
        start += beside + (m - 1) * step
        beside = step


@compiled("void(f4[:, ::1], i8, i8, i8, u1[:, ::1], u1[:, ::1])")
def _rows(scores: Any, n: Any, m: Any, step: Any, network: Any, flags: Any) -> None:
    room = np.zeros(2 * m * _LANES, np.float32)
    kept = np.empty(2 * m * _LANES, np.uint8)
    columns = scores.shape[1]
    lanes = -(-columns // (m * step)) * step
    turns = step == 1 and m & (m - 1) == 0
    for r in range(len(scores)):
        row, out = scores[r], flags[r]
        for first in range(0, lanes, _LANES):
            end, here = min(first + _LANES, lanes), 0
            whole = turns and end * m <= columns and end - first == _LANES
            if whole:
                here = _turn(row, first * m, room, m)
            else:
                _pick(row, first, end, m, step, room)
            _choose(room, here, n, m, network, kept)
            if whole:
                _turn_back(kept, m, out, first * m)
            else:
                _put(kept, m, step, out, first, end)
