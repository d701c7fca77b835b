"""What stands around the matrix and between its cells: rulers and the grid."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPen

from ...engine.gemm import Gemm
from ..look import theme as themes
from ..look.theme import Theme
from . import rulers
from .camera import Camera

LEFT = 60
"""Pixels that the names of rows need."""
_GRID_FROM = 9.0


def grid(painter: QPainter, stage: QRectF, camera: Camera, theme: Theme) -> None:
    """Cells that are large enough stand apart from each other."""
    wide, high = camera.scale
    if min(wide, high) < _GRID_FROM:
        return
    top, left, bottom, right = camera.visible()
    alpha = min(1.0, (min(wide, high) - _GRID_FROM) / 10 + 0.3)
    painter.setPen(QPen(theme.colour("bg", alpha), 1))
    for column in range(left + 1, right):
        x = round(stage.left() + camera.x(column)) - 0.5
        painter.drawLine(QPointF(x, stage.top()), QPointF(x, stage.bottom()))
    for row in range(top + 1, bottom):
        y = round(stage.top() + camera.y(row)) - 0.5
        painter.drawLine(QPointF(stage.left(), y), QPointF(stage.right(), y))


def scales(painter: QPainter, stage: QRectF, gemm: Gemm, camera: Camera, theme: Theme) -> None:
    """Names of columns above the matrix and of rows beside it."""
    font = themes.font(11)
    metrics = QFontMetricsF(font)
    painter.setFont(font)
    top, left, bottom, right = camera.visible()
    wide, high = camera.scale
    end_x, end_y = (stage.left() + camera.extent[0], stage.top() + camera.extent[1])
    faint, dim = theme.colour("faint"), theme.colour("dim")
    base = stage.top() - 12

    first = "input 0" if left == 0 else f"input {rulers.column_name(gemm, left)}"
    last = str(camera.ins) if right == camera.ins else rulers.column_name(gemm, right - 1)
    painter.setPen(dim)
    painter.drawText(QPointF(stage.left(), base), first)
    last_x = max(end_x - metrics.horizontalAdvance(last), stage.left())
    free = stage.left() + metrics.horizontalAdvance(first) + 14
    if last_x > free:
        painter.drawText(QPointF(last_x, base), last)
    painter.setPen(faint)
    for column, text in rulers.column_ticks(gemm, left, right, wide, 92):
        half = metrics.horizontalAdvance(text) / 2
        # A mark stands before its column; at large cells over its middle.
        x = stage.left() + camera.x(column) + (wide / 2 if wide >= _GRID_FROM else 0)
        if x - half > free and x + half < last_x - 14:
            painter.drawText(QPointF(x - half, base), text)
            painter.drawLine(QPointF(x, stage.top() - 7), QPointF(x, stage.top() - 4))

    def at_row(text: str, y: float, colour: QColor) -> None:
        painter.setPen(colour)
        box = QRectF(stage.left() - LEFT, y, LEFT - 10, metrics.height())
        painter.drawText(box, int(Qt.AlignmentFlag.AlignRight), text)

    height = metrics.height()
    at_row(f"out {top}", stage.top() - 1, dim)
    last_y = end_y - height + 1
    room = last_y > stage.top() + height + 4
    if room:
        at_row(str(camera.out if bottom == camera.out else bottom - 1), last_y, dim)
    for row, text in rulers.row_ticks(top, bottom, high, 56):
        y = stage.top() + camera.y(row) + (high / 2 if high >= _GRID_FROM else 0)
        if y - height / 2 > stage.top() + height + 6 and y + height / 2 < last_y - 8:
            at_row(text, y - height / 2, faint)
            painter.drawLine(QPointF(stage.left() - 7, y), QPointF(stage.left() - 4, y))
