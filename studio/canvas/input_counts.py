"""Which inputs a layer still sees: a picture of the pixels, or a strip over all inputs."""

from __future__ import annotations

from math import ceil

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QHelpEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from ..look import theme as themes
from ..look.theme import Theme
from . import colormaps, marks
from .colormaps import Array

_SIDE, _STRIP, _LEGEND = 216, 120, 24
_MAP = "cividis"


class InputCounts(QWidget):
    """How many outputs read each input. Inputs that are pixels stand where they do in the image."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("topology_inputs")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._counts: Array = np.zeros(0, np.int32)
        self._image: tuple[int, int] | None = None
        self._outputs = 0

    def show_counts(self, counts: Array, image: tuple[int, int] | None, outputs: int) -> None:
        """Show int [in], as an image of (height, width) where they are one; of `outputs` rows."""
        if image is not None and image[0] * image[1] != len(counts):
            image = None
        self._counts, self._image, self._outputs = counts, image, outputs
        unread = int((counts == 0).sum())
        self.setAccessibleName(f"{len(counts)} inputs, {unread} read by no output")
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        if self._image is None:
            return QSize(_SIDE, _STRIP + _LEGEND)
        high, wide = self._image
        return QSize(_SIDE, round(_SIDE * min(1.0, high / wide)) + _LEGEND)

    def area(self) -> QRectF:
        """Where the picture or the strip lies."""
        room = QRectF(0, 0, self.width(), max(8, self.height() - _LEGEND))
        if self._image is None:
            return room
        high, wide = self._image
        scale = min(room.width() / wide, room.height() / high)
        if scale >= 1:
            scale = float(int(scale))
        return QRectF(0, 0, wide * scale, high * scale)

    def input_at(self, place: QPointF) -> int | None:
        """The input under a pixel, None beside the picture."""
        area = self.area()
        if not area.contains(place) or not len(self._counts):
            return None
        x = min((place.x() - area.left()) / area.width(), 0.999999)
        y = min((place.y() - area.top()) / area.height(), 0.999999)
        if self._image is None:
            return int(x * len(self._counts))
        high, wide = self._image
        return int(y * high) * wide + int(x * wide)

    def words_at(self, place: QPointF) -> str:
        """What is under a pixel, in words; empty beside the picture."""
        index = self.input_at(place)
        if index is None:
            return ""
        where = f"input {index:,}"
        if self._image is not None:
            row, column = divmod(index, self._image[1])
            where = f"pixel at row {row}, column {column}"
        return f"{where}: read by {int(self._counts[index]):,} of {self._outputs:,} outputs"

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = themes.theme_of(self)
        painter = QPainter(self)
        if len(self._counts):
            if self._image is not None:
                self._paint_image(painter, self._image, theme)
            else:
                self._paint_strip(painter, theme)
        painter.end()

    def _paint_image(self, painter: QPainter, image: tuple[int, int], theme: Theme) -> None:
        area, top = self.area(), int(self._counts.max())
        colours = colormaps.lookup(_MAP)
        shades = np.rint(self._counts * 255 / max(1, top)).astype(int).reshape(image)
        wide, high = area.width() / image[1], area.height() / image[0]
        gap = 1.0 if min(wide, high) >= 8 else 0.0
        ground = QColor(colormaps.pruned(theme))
        for (row, column), shade in np.ndenumerate(shades):
            cell = QRectF(column * wide, row * high, wide - gap, high - gap)
            read = self._counts[row * image[1] + column] > 0
            painter.fillRect(cell, QColor(*map(int, colours[shade])) if read else ground)
        at = QPointF(area.left(), area.bottom() + 8)
        marks.legend(painter, at, colours, 0, top, "outputs", theme)

    def _paint_strip(self, painter: QPainter, theme: Theme) -> None:
        area, counts = self.area(), self._counts
        columns = min(len(counts), int(area.width()))
        edges = np.arange(columns + 1) * len(counts) // columns
        means = np.add.reduceat(counts, edges[:-1]) / np.diff(edges)
        least = np.minimum.reduceat(counts, edges[:-1])
        top = max(1.0, float(means.max()))
        step = area.width() / columns
        gap = 1.0 if step >= 4 else 0.0
        painter.setPen(QPen(theme.colour("line"), 1))
        for share in (0.0, 0.5, 1.0):
            y = round(area.bottom() - share * (area.height() - 14)) - 0.5
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
        for index, mean in enumerate(means):
            left = area.left() + index * step
            high = float(mean) / top * (area.height() - 14)
            bar = QRectF(left, area.bottom() - high, ceil(step) - gap, high)
            painter.fillRect(bar, theme.colour("leaf", 0.8))
            if least[index] == 0:
                # An input that nothing reads has no bar; its foot says so.
                painter.fillRect(
                    QRectF(left, area.bottom(), ceil(step) - gap, 3), theme.colour("amber")
                )
        painter.setFont(themes.font(11))
        painter.setPen(theme.colour("faint"))
        painter.drawText(
            area.adjusted(0, -2, 0, 0), int(Qt.AlignmentFlag.AlignLeft), f"{top:,.3g} outputs"
        )
        foot = QRectF(area.left(), area.bottom() + 6, area.width(), _LEGEND - 6)
        painter.drawText(foot, int(Qt.AlignmentFlag.AlignLeft), "input 0")
        painter.drawText(foot, int(Qt.AlignmentFlag.AlignRight), f"{len(counts):,}")

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            words = self.words_at(QPointF(event.pos()))
            QToolTip.showText(event.globalPos(), words, self)
            return True
        return super().event(event)
