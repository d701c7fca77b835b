"""A pair of axes: round ticks, hairlines, and places of values in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QFontMetricsF, QPainter, QPen

from ..look import theme as themes
from ..look.theme import Theme
from .plot import words

Tick = tuple[float, str]


@dataclass(frozen=True)
class Axis:
    """From `low` to `high` in equal steps, or with `log` in equal factors."""

    low: float
    high: float
    title: str
    ticks: tuple[Tick, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the axis' start and 1 at its end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def round_axis(low: float, high: float, title: str, count: int = 5) -> Axis:
    """An axis from and to round numbers about `low` and `high`, with about `count` steps."""
    span = (high - low) or abs(high) or 1.0
    rough = span / count
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    values = [n * step for n in range(first, max(last, first + 1) + 1)]
    return Axis(values[0], values[-1], title, tuple((v, f"{v:,.6g}") for v in values))


def log_axis(low: float, high: float, title: str) -> Axis:
    """An axis in equal factors that holds `low` and `high`, with ticks at 1, 2 and 5."""
    low, high = low * 0.85, high * 1.15
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [m * 10.0**p for p in powers for m in (1, 2, 5)]
    if math.log10(high / low) > 3.2:
        every = [10.0**p for p in powers]
    ticks = tuple((v, f"{v:,.6g}") for v in every if low <= v <= high)
    return Axis(low, high, title, ticks, log=True)


@dataclass(frozen=True)
class Axes:
    """Two axes around an area of the picture."""

    area: QRectF
    x: Axis
    y: Axis

    def place(self, x: float, y: float) -> QPointF:
        """A point in pixels."""
        return QPointF(
            self.area.left() + self.x.share(x) * self.area.width(),
            self.area.bottom() - self.y.share(y) * self.area.height(),
        )

    def paint(self, painter: QPainter, look: Theme) -> None:
        """Hairlines at the ticks of y, a base line, figures, and titles."""
        metrics = QFontMetricsF(themes.font(11))
        area = self.area
        for value, text in self.y.ticks:
            y = self.place(self.x.low, value).y()
            painter.setPen(QPen(look.colour("line"), 1))
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
            words(painter, QPointF(area.left() - 8, y + 4), text, look.colour("dim"), 11, "right")
        painter.setPen(QPen(look.colour("faint"), 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        end = -1e9
        for value, text in self.x.ticks:
            place = self.place(value, self.y.low)
            wide = metrics.horizontalAdvance(text)
            painter.setPen(QPen(look.colour("faint"), 1))
            painter.drawLine(place, place + QPointF(0, 4))
            if place.x() - wide / 2 > end + 6:
                words(painter, place + QPointF(0, 18), text, look.colour("dim"), 11, "middle")
                end = place.x() + wide / 2
        words(painter, QPointF(area.right(), area.bottom() + 36), self.x.title,
              look.colour("dim"), 11, "right")  # fmt: skip
        words(painter, QPointF(area.left() - self.left_room(), area.top() - 12), self.y.title,
              look.colour("dim"), 11)  # fmt: skip

    def left_room(self) -> float:
        """How wide the figures at the left are, in pixels."""
        return left_room(self.y)


def left_room(axis: Axis) -> float:
    """Pixels that the figures of an upright axis take."""
    metrics = QFontMetricsF(themes.font(11))
    return max((metrics.horizontalAdvance(text) for _, text in axis.ticks), default=20.0) + 8


def paint_marker(painter: QPainter, place: QPointF, shape: int, radius: float) -> None:
    """One of four marks, so that curves can be told apart without their colours."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    x, y, r = place.x(), place.y(), radius
    corners: Sequence[tuple[float, float]]
    match shape % 4:
        case 0:
            painter.drawEllipse(place, r, r)
            return
        case 1:
            corners = ((-r, -r), (r, -r), (r, r), (-r, r))
        case 2:
            corners = ((0, -1.3 * r), (1.2 * r, r), (-1.2 * r, r))
        case _:
            corners = ((0, -1.35 * r), (1.35 * r, 0), (0, 1.35 * r), (-1.35 * r, 0))
    painter.drawPolygon([QPointF(x + dx, y + dy) for dx, dy in corners])


def no_pen(painter: QPainter) -> None:
    """Fill without an outline."""
    painter.setPen(Qt.PenStyle.NoPen)
