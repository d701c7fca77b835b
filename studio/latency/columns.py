"""The bars of the layers' picture: where they begin, how long a millisecond is, and their paint."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPen

from ..look.theme import Theme


@dataclass(frozen=True)
class Columns:
    """Where bars begin, pixels of a millisecond, and the longest time that there is room for.

    A candidate that lost badly, or a whisker of a busy machine, would make all else a dot: it is
    cut there.
    """

    left: float
    scale: float
    limit: float

    def end(self, ms: float) -> float:
        """Where a bar of `ms` milliseconds ends."""
        return self.left + min(ms, self.limit) * self.scale

    def paint(
        self, painter: QPainter, top: float, thick: float,
        values: tuple[float, float | None, float | None], colour: QColor, look: Theme,
    ) -> None:  # fmt: skip
        """A bar as long as a median, with a whisker between the quartiles over its end."""
        median, low, high = values
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour)
        wide = max(2.0, self.end(median) - self.left)
        painter.drawRoundedRect(QRectF(self.left, top, wide, thick), 2, 2)
        painter.restore()
        if low is None or high is None or low > self.limit or (high - low) * self.scale < 3:
            return
        y = top + thick / 2
        a, b = self.end(low), self.end(high)
        painter.setPen(QPen(look.colour("text", 0.75), 1))
        painter.drawLine(QPointF(a, y), QPointF(b, y))
        for x in (a, b) if high <= self.limit else (a,):
            painter.drawLine(QPointF(x, y - thick / 4), QPointF(x, y + thick / 4))
