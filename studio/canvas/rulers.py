"""The words along the matrix: positions in the model's own terms."""

from __future__ import annotations

from ...engine.gemm import Gemm

Tick = tuple[int, str]


def column_name(gemm: Gemm, column: int) -> str:
    """A column in short: ``64``, or ``c 64 · k (1,1)`` of a convolution."""
    if gemm.taps == 1:
        return str(column)
    channel, place = gemm.position(column)
    return f"c {channel} · k ({','.join(map(str, place))})"


def entry_words(gemm: Gemm, row: int, column: int) -> str:
    """An entry in full: ``out 71 · in 58 · kernel (2, 0)``."""
    channel, place = gemm.position(column)
    # A grouped convolution's columns count the channels of the output's own group.
    group = row * gemm.groups // gemm.shape[0]
    words = f"out {row} · in {group * gemm.channels + channel}"
    return f"{words} · kernel ({', '.join(map(str, place))})" if gemm.taps > 1 else words


def column_ticks(gemm: Gemm, left: int, right: int, scale: float, gap: float) -> list[Tick]:
    """Columns to name strictly between `left` and `right`, at least `gap` pixels apart.

    `scale` is pixels per column. A convolution's marks stand at whole channels until there is room
    to name kernel positions.
    """
    if gemm.taps == 1:
        return row_ticks(left, right, scale, gap)
    if gap / scale > gemm.taps:
        step = nice_step(gap / scale / gemm.taps) * gemm.taps
        return [(c, f"c {c // gemm.taps}") for c in _multiples(left, right, step)]
    step = nice_step(gap / scale)
    return [(c, column_name(gemm, c)) for c in _multiples(left, right, step)]


def row_ticks(first: int, last: int, scale: float, gap: float) -> list[Tick]:
    """Rows to name strictly between `first` and `last`, at least `gap` pixels apart."""
    return [(n, str(n)) for n in _multiples(first, last, nice_step(gap / scale))]


def nice_step(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50 and so on that is at least `least`."""
    size = 1
    while True:
        for digit in (1, 2, 5):
            if digit * size >= least:
                return digit * size
        size *= 10


def _multiples(first: int, last: int, step: int) -> range:
    start = (first // step + 1) * step
    return range(start, last, step)
