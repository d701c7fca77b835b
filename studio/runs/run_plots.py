"""The run strip's small pictures: progress in segments, curves against dense, bars per layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QHelpEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from ..look.theme import font, theme_of
from .mask_plot import Metrics, tip_at

_SEGMENTS = 40

Points = Sequence[tuple[float, float]]


class SegmentedProgress(QWidget):
    """Progress as a row of segments; empty while the length of the work is unknown."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("run_progress")
        self.setAccessibleName("Progress")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.fraction = 0.0
        self._role = "leaf"

    def show_fraction(self, fraction: float | None, role: str = "leaf") -> None:
        """Show a share of 0..1 (None: unknown) in the colour of a theme's role."""
        self.fraction, self._role = fraction or 0.0, role
        self.setAccessibleDescription(f"{self.fraction * 100:.0f} %")
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(240, 8)

    def minimumSizeHint(self) -> QSize:
        return QSize(60, 8)

    def paintEvent(self, event: QPaintEvent) -> None:
        look = theme_of(self)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        count = min(_SEGMENTS, max(8, self.width() // 10))
        step = self.width() / count
        for index in range(count):
            box = QRectF(index * step, 0, step - 2, self.height())
            painter.setBrush(look.colour("line"))
            painter.drawRoundedRect(box, 2, 2)
            part = min(1.0, max(0.0, self.fraction * count - index))
            if part > 0:
                painter.setBrush(look.colour(self._role))
                box.setWidth(box.width() * part)
                painter.drawRoundedRect(box, 2, 2)
        painter.end()


class CurvePlot(QWidget):
    """Accuracy over the steps in blue against the dashed dense line, the loss quietly behind."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("accuracy_plot")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._accuracy: Points = ()
        self._loss: Points = ()
        self._dense: float | None = None
        self._end = 1.0
        self._empty = ""
        self._metrics: Metrics = ()

    def show_metrics(self, metrics: Metrics) -> None:
        """What is told of the place under the pointer."""
        self._metrics = metrics

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            words = tip_at(self._metrics, event.pos().x() / max(1, self.width()), self._end)
            QToolTip.showText(event.globalPos(), words, self)
            return True
        return super().event(event)

    def show_curves(
        self, accuracy: Points, loss: Points, dense: float | None, end: float, empty: str
    ) -> None:
        """Show (step, value) points; `end` is the last step of the axis, `empty` says why none."""
        self._accuracy, self._loss, self._dense = accuracy, loss, dense
        self._end, self._empty = max(end, 1.0), empty
        last = f"{accuracy[-1][1] * 100:.1f} %" if accuracy else "none yet"
        self.setAccessibleName(f"Accuracy: {last}")
        self.update()

    def minimumSizeHint(self) -> QSize:
        return QSize(140, 48)

    def paintEvent(self, event: QPaintEvent) -> None:
        look = theme_of(self)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if not self._accuracy and not self._loss and self._dense is None:
            painter.setPen(look.colour("faint"))
            painter.setFont(font(12))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.rect(), flags, self._empty)
            painter.end()
            return
        area = QRectF(self.rect()).adjusted(2, 6, -8, -6)
        heights = [value for _, value in self._accuracy]
        heights += [self._dense] if self._dense is not None else []
        low, high = min(heights, default=0.0), max(heights, default=1.0)
        # At least five points of accuracy high, so that noise does not look like drama.
        pad = max(0.05 - (high - low), 0.0) + 0.15 * (high - low)
        low, high = low - pad, high + 0.15 * (high - low) + 0.005
        if self._dense is not None:
            y = area.bottom() - (self._dense - low) / (high - low) * area.height()
            painter.setPen(QPen(look.colour("faint"), 1, Qt.PenStyle.DashLine))
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))
        top = max((value for _, value in self._loss), default=1.0) or 1.0
        self._line(painter, area, self._loss, 0.0, top, QPen(look.colour("dim", 0.5), 1.25))
        pen = QPen(look.colour("blue"), 2)
        end = self._line(painter, area, self._accuracy, low, high, pen)
        if end is not None:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(look.colour("blue"))
            painter.drawEllipse(end, 3, 3)
        painter.end()

    def _line(
        self, painter: QPainter, area: QRectF, points: Points, low: float, high: float, pen: QPen
    ) -> QPointF | None:
        placed = [
            QPointF(
                area.left() + min(step / self._end, 1.0) * area.width(),
                area.bottom() - (value - low) / (high - low) * area.height(),
            )
            for step, value in points
        ]
        painter.setPen(pen)
        painter.drawPolyline(QPolygonF(placed))
        return placed[-1] if placed else None


@dataclass(frozen=True)
class Bar:
    """One layer's bar: what is reached, and what was asked (None: nothing to compare with)."""

    path: str
    value: float
    asked: float | None
    tip: str


class LayerBars(QWidget):
    """A bar per layer with an amber line where it should end; a click picks the layer."""

    picked = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("layer_bars")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.bars: tuple[Bar, ...] = ()
        self._current: str | None = None
        self._top = 1.0
        self._empty = ""

    def show_bars(
        self, bars: tuple[Bar, ...], current: str | None, top: float, empty: str = ""
    ) -> None:
        """Show bars on an axis from 0 to `top`; the layer `current` stands out."""
        self.bars, self._current, self._top, self._empty = bars, current, top, empty
        self.setAccessibleName("; ".join(bar.tip for bar in bars) or empty)
        self.update()

    def minimumSizeHint(self) -> QSize:
        return QSize(160, 48)

    def bar_at(self, x: float) -> Bar | None:
        """The bar in whose column a pixel lies."""
        index = int((x - 1) // self._step()) if self.bars else -1
        return self.bars[index] if 0 <= index < len(self.bars) else None

    def _step(self) -> float:
        return min(24.0, (self.width() - 2) / max(1, len(self.bars)))

    def paintEvent(self, event: QPaintEvent) -> None:
        look = theme_of(self)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if not self.bars:
            painter.setPen(look.colour("faint"))
            painter.setFont(font(12))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, self._empty)
        step, floor = self._step(), self.height() - 3.0
        room = floor - 4
        wide = max(1.0, step - min(8.0, step * 0.35))
        for index, bar in enumerate(self.bars):
            left = 1 + index * step + (step - wide) / 2
            high = min(1.0, bar.value / self._top) * room
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(look.colour("line"))
            painter.drawRoundedRect(QRectF(left, floor - 1, wide, 2), 1, 1)
            painter.setBrush(look.colour("leaf", 1.0 if bar.path == self._current else 0.55))
            painter.drawRoundedRect(QRectF(left, floor - high, wide, high), 2, 2)
            if bar.asked is not None:
                y = floor - min(1.0, bar.asked / self._top) * room
                painter.setPen(QPen(look.colour("amber"), 1.5))
                edge = min(2.0, step * 0.1)
                painter.drawLine(QPointF(left - edge, y), QPointF(left + wide + edge, y))
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        bar = self.bar_at(event.position().x())
        if bar is not None and event.button() == Qt.MouseButton.LeftButton:
            self.picked.emit(bar.path)

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            bar = self.bar_at(event.pos().x())
            QToolTip.showText(event.globalPos(), bar.tip if bar is not None else "", self)
            return True
        return super().event(event)
