"""Small things painted over the picture: cards, the legend, sentences."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, QSizeF, Qt
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontMetricsF,
    QImage,
    QLinearGradient,
    QPainter,
    QPainterPath,
    QPen,
)

from ..look import theme as themes
from ..look.theme import Theme
from .colormaps import Array

MINUS = "−"


def number(value: float) -> str:
    """A weight in words: four decimals, or an exponent where those would say nothing."""
    if value == 0:
        return "0"
    text = f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.2e}"
    return text.replace("-", MINUS)


def short_number(value: float) -> str:
    """A limit of the legend: three significant figures."""
    return (f"{value:.3g}" if value else "0").replace("-", MINUS)


def card(painter: QPainter, box: QRectF, theme: Theme) -> None:
    """A raised card with a soft shadow."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    for spread, alpha in ((7, 10), (4, 16), (2, 22)):
        painter.setBrush(QColor(0, 0, 0, alpha))
        shadow = box.adjusted(-spread, -spread + 3, spread, spread + 3)
        painter.drawRoundedRect(shadow, 8 + spread, 8 + spread)
    painter.setPen(QPen(theme.colour("line"), 1))
    painter.setBrush(theme.colour("raise_"))
    painter.drawRoundedRect(box.adjusted(0.5, 0.5, -0.5, -0.5), 8, 8)
    painter.restore()


def tip(
    painter: QPainter, at: QPointF, stage: QRectF, head: tuple[str, str], line: str, theme: Theme
) -> QRectF:
    """The card beside the cursor: a value, whether it is kept, and where it stands."""
    strong, plain = themes.font(12, QFont.Weight.DemiBold), themes.font(12)
    value, state = head
    bold, thin = QFontMetricsF(strong), QFontMetricsF(plain)
    first = bold.horizontalAdvance(value + " ") + thin.horizontalAdvance(state)
    size = QSizeF(max(first, thin.horizontalAdvance(line)) + 22, 2 * thin.height() + 16)
    x, y = at.x() + 16, at.y() + 18
    if x + size.width() > stage.right() - 4:
        x = at.x() - 14 - size.width()
    if y + size.height() > stage.bottom() - 4:
        y = at.y() - 12 - size.height()
    box = QRectF(QPointF(round(max(stage.left() + 4, x)), round(y)), size)
    card(painter, box, theme)
    base = box.top() + 8 + thin.ascent()
    painter.setFont(strong)
    painter.setPen(theme.colour("text"))
    painter.drawText(QPointF(box.left() + 11, base), value)
    painter.setFont(plain)
    painter.setPen(theme.colour("dim"))
    painter.drawText(QPointF(box.left() + 11 + bold.horizontalAdvance(value + " "), base), state)
    painter.drawText(QPointF(box.left() + 11, base + thin.height()), line)
    return box


def legend(
    painter: QPainter,
    at: QPointF,
    colours: Array,
    low: float,
    high: float,
    title: str,
    theme: Theme,
) -> float:
    """What colours mean, from `at` on to the right; returns its width."""
    low = 0.0 if abs(low) < high / 1000 else low
    font = themes.font(11)
    metrics = QFontMetricsF(font)
    painter.setFont(font)
    painter.setPen(theme.colour("dim"))
    base = at.y() + metrics.ascent()
    x = at.x()
    painter.drawText(QPointF(x, base), title)
    x += metrics.horizontalAdvance(title) + 10
    painter.setPen(theme.colour("faint"))
    painter.drawText(QPointF(x, base), short_number(low))
    x += metrics.horizontalAdvance(short_number(low)) + 6
    bar = QRectF(x, at.y() + (metrics.height() - 8) / 2, 120, 8)
    gradient = QLinearGradient(bar.topLeft(), bar.topRight())
    for i in range(0, 256, 17):
        gradient.setColorAt(i / 255, QColor(*map(int, colours[i])))
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(gradient)
    painter.drawRoundedRect(bar, 2, 2)
    painter.restore()
    x = bar.right() + 6
    painter.drawText(QPointF(x, base), short_number(high))
    return x + metrics.horizontalAdvance(short_number(high)) - at.x()


def key(painter: QPainter, at: QPointF, entries: list[tuple[str, str]], theme: Theme) -> float:
    """Colour patches with their names, from `at` on to the right; returns the width."""
    font = themes.font(11)
    metrics = QFontMetricsF(font)
    painter.setFont(font)
    x = at.x()
    for colour, text in entries:
        patch = QRectF(round(x), round(at.y() + (metrics.height() - 10) / 2), 10, 10)
        painter.fillRect(patch, QColor(colour))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(theme.colour("line"))
        painter.drawRect(patch.adjusted(0, 0, -1, -1))
        painter.setPen(theme.colour("dim"))
        painter.drawText(QPointF(x + 16, at.y() + metrics.ascent()), text)
        x += 16 + metrics.horizontalAdvance(text) + 18
    return x - 18 - at.x()


def sentence(
    painter: QPainter, stage: QRectF, head: str, text: str, theme: Theme, role: str = "text"
) -> None:
    """A headline and a line below it in the middle of the stage."""
    flags = Qt.AlignmentFlag.AlignHCenter | Qt.TextFlag.TextWordWrap
    width = min(stage.width() - 32, 460.0)
    strong, plain = themes.font(14, QFont.Weight.DemiBold), themes.font(13)
    room = QRectF(0, 0, width, 400)
    first = QFontMetricsF(strong).boundingRect(room, int(flags), head).height()
    second = QFontMetricsF(plain).boundingRect(room, int(flags), text).height() if text else 0
    x = stage.center().x() - width / 2
    y = stage.center().y() - (first + 6 + second) / 2
    painter.setFont(strong)
    painter.setPen(theme.colour(role))
    painter.drawText(QRectF(x, y, width, first + 2), int(flags), head)
    painter.setFont(plain)
    painter.setPen(theme.colour("dim"))
    painter.drawText(QRectF(x, y + first + 6, width, second + 2), int(flags), text)


def overview(painter: QPainter, box: QRectF, picture: QImage, frame: QRectF, theme: Theme) -> None:
    """The whole matrix, small, with a frame around what is in sight (0..1 of its sides)."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    painter.fillRect(box.adjusted(-4, -4, 4, 4), theme.colour("bg", 0.85))
    size = (box.size() * painter.device().devicePixelRatioF()).toSize()
    small = picture.scaled(
        size, Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation
    )
    painter.drawImage(box, small)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(theme.colour("line"), 1))
    painter.drawRect(box.adjusted(-0.5, -0.5, 0.5, 0.5))
    seen = QRectF(
        box.left() + frame.left() * box.width(),
        box.top() + frame.top() * box.height(),
        max(4.0, frame.width() * box.width()),
        max(4.0, frame.height() * box.height()),
    )
    rest = QPainterPath()
    rest.addRect(box)
    inside = QPainterPath()
    inside.addRect(seen)
    painter.fillPath(rest.subtracted(inside), theme.colour("bg", 0.55))
    painter.setPen(QPen(theme.colour("bg"), 3))
    painter.drawRect(seen)
    painter.setPen(QPen(theme.colour("text"), 1))
    painter.drawRect(seen)
    painter.restore()
