"""The scale of a plot's axis, its ticks and their words. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Word = Callable[[float], str]


def plain(value: float) -> str:
    """As short as it can be said: 0.25, 12, 1.5k."""
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{round(value, 6):g}"


def percent(value: float) -> str:
    """A share as 75 %."""
    return f"{100 * value:.3g} %"


def fold(value: float) -> str:
    """A speed-up as 0.5× or 2×."""
    return f"{value:g}×"


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, which differ; with `log` both are above zero. `word` is for ticks."""

    label: str
    low: float
    high: float
    log: bool = False
    word: Word = plain
    at: tuple[float, ...] | None = None
    """Where the ticks are; None: at round values."""

    def place(self, value: float) -> float:
        """Where a value lies, 0 at the low end and 1 at the high one, never outside."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self) -> list[float]:
        """Round values along the axis, at most seven."""
        if self.at is not None:
            return list(self.at)
        return _log_ticks(self.low, self.high) if self.log else _ticks(self.low, self.high)


def around(
    label: str,
    values: Iterable[float],
    *,
    log: bool = False,
    word: Word = plain,
    at: tuple[float, ...] | None = None,
) -> Axis:
    """An axis for `values` with some room: from zero, or with `log` from below the least."""
    known = list(values)
    least, most = min(known, default=1.0), max(known, default=1.0)
    if log:
        return Axis(label, least / 1.25, most * 1.25, True, word, at)
    low, high = min(least, 0.0), max(most, 0.0)
    room = 0.08 * ((high - low) or 1.0)
    return Axis(label, low - room * (low < 0), high + room, False, word, at)


def _ticks(low: float, high: float) -> list[float]:
    size = (high - low) / 5
    step = 10 ** math.floor(math.log10(size))
    step *= next(times for times in (1, 2, 5, 10) if times * step >= size)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [d * 10.0**n for n in range(first, last + 1) for d in digits]
        found = [value for value in found if low <= value <= high]
        if len(found) <= 7:
            return found
    return found[:: math.ceil(len(found) / 7)]
