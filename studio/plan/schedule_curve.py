"""A schedule as a curve: sparsity over training steps, drawn from the schedule's own `target`."""

from __future__ import annotations

from functools import lru_cache

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from ...engine.schedules import SCHEDULES, Schedule
from ..look.theme import font, theme_of
from ..look.widgets import wrapped

_NOMINAL = 1000
"""Steps of a training whose length is not known yet; only the curve's shape shows."""
_MOST = 4000
"""No more steps than this are asked of the schedule for one picture."""


def length(schedule: Schedule, planned: int | None = None) -> int:
    """How many steps the curve's axis spans, of a training with `planned` steps."""
    if planned:
        return max(planned, schedule.last_step(planned))
    last = schedule.last_step(_NOMINAL)
    return max(_NOMINAL, last * 4 // 3)


@lru_cache(maxsize=64)
def curve(schedule: Schedule, final: float, total: int) -> tuple[tuple[int, float], ...]:
    """(step, sparsity) at each step where the schedule sets the masks, and at the end."""
    last = min(schedule.last_step(total), total)
    stride = max(1, last // _MOST)
    steps = sorted({*range(0, last + 1, stride), last})
    points = [(s, t) for s in steps if (t := schedule.target(s, total, final)) is not None]
    if not points:
        return ()
    return (*points, (total, points[-1][1]))


def at(points: tuple[tuple[int, float], ...], step: float) -> float:
    """The sparsity that holds at `step`: what was set last."""
    held = [sparsity for place, sparsity in points if place <= step]
    return held[-1] if held else 0.0


class ScheduleCurve(QWidget):
    """The curve, its final sparsity, and a dot at the step of the run under way."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("schedule_curve")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._schedule: Schedule = SCHEDULES.parse("oneshot")
        self._final = 0.0
        self._planned: int | None = None
        self._step: int | None = None
        self._end = 0

    def show_schedule(
        self,
        schedule: Schedule,
        final: float,
        planned: int | None = None,
        step: int | None = None,
        end: int = 0,
    ) -> None:
        """Show `schedule` up to the sparsity `final`; `step` of `planned` while a run is on.

        `end` is the last step of a run that goes on past those that were planned.
        """
        self._end = end
        self._schedule, self._final = schedule, final
        self._planned, self._step = planned, step
        words = schedule.course_words
        now = "" if step is None else f", now at step {step:,} of {max(planned or 0, end):,}"
        self.setAccessibleName(f"Schedule curve: up to {final * 100:.1f} %, {words}{now}")
        self.setToolTip(wrapped(f"Up to {final * 100:.1f} %: {words}{now}."))
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(240, 64)

    def minimumSizeHint(self) -> QSize:
        return QSize(120, 64)

    def paintEvent(self, event: QPaintEvent) -> None:
        look = theme_of(self)
        total = length(self._schedule, self._planned)
        points = curve(self._schedule, self._final, total)
        if points and self._end > total:
            total = self._end
            points = (*points, (total, points[-1][1]))
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(self.rect()).adjusted(1, 8, -5, -16)
        painter.setPen(QPen(look.colour("line"), 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())

        def place(step: float, sparsity: float) -> QPointF:
            high = max(self._final, max((s for _, s in points), default=0.0), 1e-6)
            x = area.left() + step / total * area.width()
            return QPointF(x, area.bottom() - sparsity / high * (area.height() - 2))

        line = [place(0, 0.0)]
        for step, sparsity in points:
            line += [QPointF(place(step, 0).x(), line[-1].y()), place(step, sparsity)]
        if points:
            area_under = QPolygonF([*line, QPointF(line[-1].x(), area.bottom())])
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(look.colour("leaf", 0.12))
            painter.drawPolygon(area_under)
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(look.colour("leaf"), 2))
            painter.drawPolyline(QPolygonF(line))
        if self._step is not None:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(look.colour("text"))
            painter.drawEllipse(place(self._step, at(points, self._step)), 3.5, 3.5)
        painter.setFont(font(11))
        painter.setPen(look.colour("faint"))
        words = QRectF(self.rect()).adjusted(0, self.height() - 14, -2, 0)
        painter.drawText(words, Qt.AlignmentFlag.AlignLeft, self._schedule.course_words)
        painter.drawText(words, Qt.AlignmentFlag.AlignRight, f"{self._final * 100:.4g} %")
        painter.end()
