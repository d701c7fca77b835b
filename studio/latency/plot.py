"""A picture that paints itself at any size: on the screen, and into PNG and SVG."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from ..look import theme as themes
from ..look.theme import Theme

MARGIN = 24.0
KEY = 22.0
"""Height of the line that says what the colours mean."""


class Plot(QWidget):
    """Base of the latency lab's pictures. `empty` says why there is nothing to draw, else empty."""

    def __init__(self, name: str, accessible: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self.setAccessibleName(accessible)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def draw(self, painter: QPainter, size: QSize, look: Theme) -> None:
        """Paint everything onto a ground that has the theme's colour already."""
        raise NotImplementedError

    def picture_size(self) -> QSize:
        """How large the picture is when it is exported."""
        return self.size()

    def paint_picture(self, painter: QPainter, size: QSize) -> None:
        """Paint ground and picture, in the theme in use."""
        look = themes.theme_of(self)
        painter.fillRect(QRectF(0, 0, size.width(), size.height()), look.colour("bg"))
        self.draw(painter, size, look)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setClipRect(event.rect())
        self.paint_picture(painter, self.size())
        painter.end()


def words(
    painter: QPainter,
    place: QPointF,
    text: str,
    colour: QColor,
    size: int = 11,
    align: str = "left",
) -> float:
    """Write `text` on a base line from, to or around `place`; gives its width in pixels."""
    font = themes.font(size)
    wide = QFontMetricsF(font).horizontalAdvance(text)
    shift = {"left": 0.0, "right": wide, "middle": wide / 2}[align]
    painter.setFont(font)
    painter.setPen(colour)
    painter.drawText(QPointF(place.x() - shift, place.y()), text)
    return wide


def paint_key(
    painter: QPainter, left: float, base: float, width: float, entries: Iterable[tuple[QColor, str]]
) -> float:
    """What the colours mean, in as many lines as `width` asks for; gives the last base line."""
    metrics = QFontMetricsF(themes.font(11))
    x = left
    for colour, text in entries:
        wide = 15 + metrics.horizontalAdvance(text)
        if x > left and x + wide > left + width:
            x, base = left, base + 18
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour)
        painter.drawRoundedRect(QRectF(x, base - 8, 9, 8), 2, 2)
        painter.restore()
        words(painter, QPointF(x + 14, base), text, themes.current().colour("dim"))
        x += wide + 14
    return base


def milliseconds(value: float) -> str:
    """A time with three figures, without its unit: ``0.941``, ``12.3``, ``1,240``."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def dense_colour(look: Theme) -> QColor:
    """The quiet colour of dense times, in every picture the same."""
    return QColor(look.mix(look.dim, look.bg, 0.6))
