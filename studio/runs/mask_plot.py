"""How masks came about: sparsity, the schedule's own number, and what was dropped and regrown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PySide6.QtCore import QEvent, QPointF, QRectF, Qt
from PySide6.QtGui import QHelpEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from ..look.theme import font, theme_of
from ..state.numbers import count

Metrics = Sequence[tuple[int, Mapping[str, float]]]
COMMON = frozenset({"loss", "accuracy", "sparsity", "dropped", "regrown", "dense_accuracy"})
"""Numbers of every training; what else there is, is the schedule's own."""
_LEGEND = 16


def own_number(metrics: Metrics) -> str:
    """The name of the schedule's own number, such as ``temperature``; empty if it has none."""
    return next((name for _, values in metrics for name in values if name not in COMMON), "")


def in_words(name: str, value: float) -> str:
    """A number of a training: ``loss 0.081``, ``accuracy 98.6 %``."""
    if name in ("accuracy", "sparsity", "closed"):
        return f"{name} {value * 100:.1f} %"
    return f"{name} {value:,.0f}" if name in ("dropped", "regrown") else f"{name} {value:.3g}"


def tip_at(metrics: Metrics, share: float, end: float) -> str:
    """All numbers of the measurement nearest to a place on the axis, 0 … 1."""
    measured = [row for row in metrics if "loss" in row[1]]
    if not measured:
        return ""
    step, values = min(measured, key=lambda row: abs(row[0] - share * end))
    return "\n".join([f"step {step:,}", *(in_words(name, v) for name, v in values.items())])


class MaskPlot(QWidget):
    """Sparsity in green, the schedule's own number in amber, bars of churn along the bottom."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("mask_plot")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._metrics: Metrics = ()
        self._end = 1.0
        self._changes: Sequence[tuple[int, int, int]] = ()

    def show_metrics(
        self, metrics: Metrics, end: float, changes: Sequence[tuple[int, int, int]] = ()
    ) -> None:
        """Show (step, values); `end` is the last step of the axis.

        `changes` are (step, dropped, regrown) of each change of the masks; without them the bars
        are those of the metrics, an epoch each.
        """
        self._changes = changes
        self._metrics, self._end = [row for row in metrics if "loss" in row[1]], max(end, 1.0)
        words = [in_words(name, v) for _, last in self._metrics[-1:] for name, v in last.items()]
        self.setAccessibleName("Masks: " + (", ".join(words) or "none yet"))
        self.update()

    def points(self, name: str) -> list[tuple[float, float]]:
        """(step, value) of one number."""
        return [(step, values[name]) for step, values in self._metrics if name in values]

    def paintEvent(self, event: QPaintEvent) -> None:
        look = theme_of(self)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(font(11))
        if not self._metrics:
            painter.setPen(look.colour("faint"))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "After the first epoch.")
            painter.end()
            return
        area = QRectF(self.rect()).adjusted(2, 6, -8, -_LEGEND - 2)
        self._draw_churn(painter, area)
        name = own_number(self._metrics)
        if name:
            values = self.points(name)
            top = max((abs(value) for _, value in values), default=1.0) or 1.0
            self._draw_line(painter, area, values, top, QPen(look.colour("amber", 0.8), 1.25))
        self._draw_line(painter, area, self.points("sparsity"), 1.0, QPen(look.colour("leaf"), 2))
        self._draw_legend(painter, name)
        painter.end()

    def _x(self, area: QRectF, step: float) -> float:
        return area.left() + min(step / self._end, 1.0) * area.width()

    def _draw_line(
        self,
        painter: QPainter,
        area: QRectF,
        points: list[tuple[float, float]],
        top: float,
        pen: QPen,
    ) -> None:
        placed = [
            QPointF(self._x(area, step), area.bottom() - value / top * area.height())
            for step, value in points
        ]
        painter.setPen(pen)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF(placed))
        if placed:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(pen.color())
            painter.drawEllipse(placed[-1], pen.widthF() + 1, pen.widthF() + 1)

    def churn(self) -> Sequence[tuple[float, float, float]]:
        """(step, dropped, regrown) of each bar."""
        if self._changes:
            return self._changes
        regrown = dict(self.points("regrown"))
        return [(step, gone, regrown.get(step, 0.0)) for step, gone in self.points("dropped")]

    def _draw_churn(self, painter: QPainter, area: QRectF) -> None:
        look = theme_of(self)
        churn = self.churn()
        # The first masks take so much away that nothing after them could be seen beside it.
        most = max((gone + come for _, gone, come in churn[1:]), default=0.0)
        wide = max(1.0, min(6.0, area.width() / max(1, len(churn)) - 1))
        painter.setPen(Qt.PenStyle.NoPen)
        for step, gone, come in churn:
            left, floor = self._x(area, step) - wide / 2, area.bottom()
            for colour, value in (("dim", gone), ("leaf", come)):
                room = floor - area.center().y()
                high = max(0.0, min(room, value / (most or 1.0) * area.height() / 2))
                painter.setBrush(look.colour(colour, 0.4))
                painter.drawRect(QRectF(left, floor - high, wide, high))
                floor -= high
        painter.setPen(QPen(look.colour("line"), 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())

    def _draw_legend(self, painter: QPainter, own: str) -> None:
        look = theme_of(self)
        bars = self.churn()
        total = {"dropped": sum(g for _, g, _ in bars), "regrown": sum(c for _, _, c in bars)}
        entries = [("leaf", "sparsity")] + ([("amber", own)] if own else [])
        lines = len(entries)
        changes = [
            (colour, sign + count(round(total[name])), name)
            for colour, name, sign in (("dim", "dropped", "−"), ("leaf", "regrown", "+"))
            if total[name]
        ]
        whole = "".join([*(words for _, words in entries), *(n + w for _, n, w in changes)])
        room = self.width() - 24 * (lines + len(changes))
        short = painter.fontMetrics().horizontalAdvance(whole) > room
        entries += [(colour, n if short else f"{n} {w}") for colour, n, w in changes]
        x, y = 2.0, float(self.height() - _LEGEND)
        for index, (colour, words) in enumerate(entries):
            churn = index >= lines
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(look.colour(colour, 0.5 if churn else 1.0))
            high = 7.0 if churn else 2.0
            painter.drawRect(QRectF(x, y + 8 - high / 2, 7, high))
            painter.setPen(look.colour("faint"))
            box = QRectF(x + 11, y, self.width(), _LEGEND)
            painter.drawText(box, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, words)
            x += 11 + painter.fontMetrics().horizontalAdvance(words) + 9

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            words = tip_at(self._metrics, event.pos().x() / max(1, self.width()), self._end)
            QToolTip.showText(event.globalPos(), words, self)
            return True
        return super().event(event)
