"""How the layer's weights are distributed: all of them against the kept ones."""

from __future__ import annotations

from math import floor, log10
from typing import Any

import numpy as np
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import (
    QFont,
    QFontMetricsF,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QShowEvent,
)
from PySide6.QtWidgets import QWidget

from ..look import theme as themes
from ..look.theme import Theme
from ..state.session import Session
from . import marks
from .shown import Shown
from .tiles import Asker

BINS = 160
_LEFT, _TOP, _RIGHT, _BOTTOM = 60, 76, 24, 62


class HistogramView(QWidget):
    """Two filled curves, of all weights and of the kept ones, over w or |w|."""

    def __init__(self, session: Session, shown: Shown, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("histogram_view")
        self.setAccessibleName("Distribution of the layer's weights")
        self.setMouseTracking(True)
        self.absolute = False
        self.logarithmic = False
        self._session = session
        self._shown = shown
        self._meta: dict[str, Any] | None = None
        self._arrays: dict[str, np.ndarray] = {}
        self._layer: str | None = None
        self._error = ""
        self._stale = True
        self._cursor: QPointF | None = None
        self._asker = Asker(session.client, "histogram", self)
        self._asker.answered.connect(self._arrived)
        self._asker.failed.connect(self._failed)
        shown.changed.connect(self.refresh)

    def set_absolute(self, absolute: bool) -> None:
        """Show |w| instead of w."""
        self.absolute = absolute
        self.update()

    def set_logarithmic(self, logarithmic: bool) -> None:
        """Show counts by their logarithm, so that rare weights are seen."""
        self.logarithmic = logarithmic
        self.update()

    def refresh(self) -> None:
        """Ask for the distribution as it is now; later, if nobody looks."""
        layer = self._shown.layer
        path = layer.path if layer is not None and layer.gemm is not None else None
        if path != self._layer:
            self._layer, self._meta, self._error = path, None, ""
        self._stale = True
        if self.isVisible():
            self._ask()
        self.update()

    def series(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is drawn: edges [n + 1], counts of all and of the kept [n]."""
        edges, every, kept = (self._arrays[name] for name in ("edges", "all", "kept"))
        if not self.absolute:
            return edges, every, kept
        half = len(every) // 2
        return edges[half:], *(c[half:] + c[:half][::-1] for c in (every, kept))

    def _ask(self) -> None:
        if self._layer is not None:
            self._stale = False
            self._asker.ask({**self._shown.question(), "bins": BINS})

    def _arrived(self, asked: dict[str, Any], meta: dict[str, Any], arrays: Any) -> None:
        if asked["layer"] == self._layer:
            self._meta, self._arrays, self._error = meta, arrays, ""
            self.update()

    def _failed(self, message: str) -> None:
        if not self._session.busy and self._session.engine_state == "ready":
            self._error = message
            self.update()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if self._stale:
            self._ask()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._cursor = event.position()
        self.update()

    def leaveEvent(self, event: Any) -> None:
        self._cursor = None
        self.update()

    # Painting

    def plot(self) -> QRectF:
        """The area of the curves, in the widget's pixels."""
        width, height = self.width() - _LEFT - _RIGHT, self.height() - _TOP - _BOTTOM
        return QRectF(_LEFT, _TOP, max(8, width), max(8, height))

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = themes.theme_of(self)
        painter = QPainter(self)
        painter.fillRect(self.rect(), theme.colour("bg"))
        whole = QRectF(self.rect())
        if self._layer is None:
            layer = self._shown.layer
            head = "Select a layer to see how its weights are distributed"
            text = f"{layer.path} has no weight matrix." if layer is not None else ""
            marks.sentence(painter, whole, head, text, theme)
        elif self._error:
            marks.sentence(painter, whole, "No histogram", self._error, theme, "rose")
        elif self._meta is not None:
            self._paint(painter, self._meta, theme)
        painter.end()

    def _paint(self, painter: QPainter, meta: dict[str, Any], theme: Theme) -> None:
        edges, every, kept = self.series()
        plot = self.plot()
        top = float(every.max())
        ceiling = max(1.0, top) * (2 if self.logarithmic else 1.08)
        self._paint_axes(painter, plot, edges, ceiling, theme)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        layers = (
            (every, theme.colour("dim", 0.20), theme.colour("faint"), 1.0),
            (kept, theme.colour("leaf", 0.42), theme.colour("leaf"), 1.5),
        )
        for counts, fill, line, width in layers:
            path = self._steps(plot, counts, ceiling)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(fill)
            closed = QPainterPath(path)
            closed.lineTo(plot.bottomRight())
            closed.lineTo(plot.bottomLeft())
            painter.drawPath(closed)
            painter.setPen(QPen(line, width))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawPath(path)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        self._paint_numbers(painter, meta, theme)
        at = QPointF(plot.left(), self.height() - 26)
        entries = [(theme.mix(theme.dim, theme.bg, 0.45), "all weights"), (theme.leaf, "kept")]
        used = marks.key(painter, at, entries, theme)
        self._paint_caption(painter, at, used, meta, theme)
        self._paint_tip(painter, plot, edges, every, kept, theme)

    def _paint_caption(
        self, painter: QPainter, at: QPointF, used: float, meta: dict[str, Any], theme: Theme
    ) -> None:
        metrics = QFontMetricsF(themes.font(11))
        words = self._shown.words(float(meta["achieved"]))
        if meta.get("misfit"):
            words = f"The pattern does not fit: {self._layer} {meta['misfit']}"
        elif meta.get("waits"):
            words = f"No preview: {self._layer} {meta['waits']}"
        room = self.width() - _RIGHT - at.x() - used - 24
        words = metrics.elidedText(words, Qt.TextElideMode.ElideRight, room)
        painter.setFont(themes.font(11))
        painter.setPen(theme.colour("dim"))
        x = self.width() - _RIGHT - metrics.horizontalAdvance(words)
        painter.drawText(QPointF(x, at.y() + metrics.ascent()), words)

    def _height(self, plot: QRectF, count: float, ceiling: float) -> float:
        if self.logarithmic:
            # One weight stands a little above none.
            share = (log10(count) + 0.3) / (log10(ceiling) + 0.3) if count > 0 else 0.0
        else:
            share = count / ceiling
        return plot.bottom() - share * plot.height()

    def _steps(self, plot: QRectF, counts: np.ndarray, ceiling: float) -> QPainterPath:
        path = QPainterPath(plot.bottomLeft())
        width = plot.width() / len(counts)
        for i, count in enumerate(counts.tolist()):
            y = self._height(plot, count, ceiling)
            path.lineTo(plot.left() + i * width, y)
            path.lineTo(plot.left() + (i + 1) * width, y)
        path.lineTo(plot.bottomRight())
        return path

    def _paint_axes(
        self, painter: QPainter, plot: QRectF, edges: np.ndarray, ceiling: float, theme: Theme
    ) -> None:
        font = themes.font(11)
        metrics = QFontMetricsF(font)
        painter.setFont(font)
        for count in _count_ticks(ceiling, self.logarithmic):
            y = round(self._height(plot, count, ceiling)) + 0.5
            painter.setPen(theme.colour("line"))
            painter.drawLine(QPointF(plot.left(), y), QPointF(plot.right(), y))
            painter.setPen(theme.colour("faint"))
            box = QRectF(0, y - metrics.height() / 2, _LEFT - 8, metrics.height())
            painter.drawText(box, int(Qt.AlignmentFlag.AlignRight), _short_count(count))
        low, high = float(edges[0]), float(edges[-1])
        for value in _value_ticks(low, high, plot.width() / 90):
            share = (value - low) / (high - low)
            x = plot.left() + share * plot.width()
            text = marks.short_number(value)
            half = metrics.horizontalAdvance(text) / 2
            x_text = min(max(x - half, plot.left()), plot.right() - 2 * half)
            painter.drawText(QPointF(x_text, plot.bottom() + 6 + metrics.ascent()), text)
        painter.setPen(theme.colour("dim"))
        painter.drawText(QPointF(plot.left(), plot.top() - 10), "weights per bin")

    def _paint_numbers(self, painter: QPainter, meta: dict[str, Any], theme: Theme) -> None:
        """Name and value of each number, in one row above the plot."""
        kept = int(self._arrays["kept"].sum())
        total = int(meta["total"])
        figures = [
            ("Mean", marks.number(meta["mean"])),
            ("Std", marks.number(meta["std"])),
            ("Largest |w|", marks.number(meta["hi"])),
            ("Zero already", f"{meta['zeros']:,}"),
            ("Kept", f"{kept:,} of {total:,}"),
            ("Std of the kept", marks.number(meta["kept_std"])),
        ]
        small, strong = themes.font(11), themes.font(13, QFont.Weight.DemiBold)
        x = float(_LEFT)
        for name, value in figures:
            width = max(
                QFontMetricsF(small).horizontalAdvance(name),
                QFontMetricsF(strong).horizontalAdvance(value),
            )
            if x + width > self.width() - _RIGHT:
                break
            painter.setFont(small)
            painter.setPen(theme.colour("dim"))
            painter.drawText(QPointF(x, 22), name)
            painter.setFont(strong)
            painter.setPen(theme.colour("text"))
            painter.drawText(QPointF(x, 40), value)
            x += width + 26

    def _paint_tip(
        self,
        painter: QPainter,
        plot: QRectF,
        edges: np.ndarray,
        every: np.ndarray,
        kept: np.ndarray,
        theme: Theme,
    ) -> None:
        if self._cursor is None or not plot.contains(self._cursor):
            return
        index = floor((self._cursor.x() - plot.left()) / plot.width() * len(every))
        index = min(max(index, 0), len(every) - 1)
        x = plot.left() + (index + 0.5) * plot.width() / len(every)
        painter.setPen(QPen(theme.colour("text", 0.35), 1))
        painter.drawLine(QPointF(x, plot.top()), QPointF(x, plot.bottom()))
        low, high = (marks.number(float(edges[i])) for i in (index, index + 1))
        name = "|w|" if self.absolute else "w"
        head = (f"{int(every[index]):,}", f"weights, {int(kept[index]):,} kept")
        line = f"{name} from {low} to {high}"
        marks.tip(painter, self._cursor, QRectF(self.rect()), head, line, theme)


def _count_ticks(ceiling: float, logarithmic: bool) -> list[float]:
    if logarithmic:
        return [10.0**e for e in range(floor(log10(ceiling)) + 1)]
    step = 10.0 ** floor(log10(ceiling))
    step = next((s for s in (step / 5, step / 2, step) if ceiling / s <= 5), step)
    step = max(1.0, step)
    return [step * i for i in range(floor(ceiling / step) + 1)]


def _value_ticks(low: float, high: float, most: float) -> list[float]:
    """Round values in the range, at most so many."""
    if high <= low:
        return []
    least = (high - low) / max(2.0, most)
    size = 10.0 ** floor(log10(least))
    step = next(size * d for d in (1, 2, 5, 10) if size * d >= least)
    first = -floor(-low / step)
    return [i * step for i in range(first, floor(high / step) + 1)]


def _short_count(count: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:g}{unit}"
    return f"{count:g}"
