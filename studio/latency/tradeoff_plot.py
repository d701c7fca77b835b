"""Accuracy against latency: every run of the model a point, and a click on it opens the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetricsF, QHelpEvent, QMouseEvent, QPainter, QPen
from PySide6.QtWidgets import QToolTip, QWidget

from ...engine.verdicts import of_busy_machine
from ..look import theme as themes
from ..look.theme import Theme
from ..state.cells import Setting, setting_words
from ..state.kept_times import KnownRun
from .axes import Axes, left_room, no_pen, paint_marker, round_axis
from .plot import KEY, MARGIN, Plot, dense_colour, milliseconds, words

_NEAR = 14.0


@dataclass(frozen=True)
class Spot:
    """A run's place: ms of one pass, accuracy as a fraction. No `folder`: the dense model."""

    ms: float
    accuracy: float
    name: str
    tip: str
    folder: Path | None = None


def spots(runs: Sequence[KnownRun], chosen: Setting | None) -> list[Spot]:
    """The runs with an accuracy and a time at one setting, and the dense model they came from."""
    found: list[Spot] = []
    for run in runs:
        cell = run.at(chosen) if chosen is not None else None
        if cell is None or run.accuracy is None:
            continue
        if run.dense is not None and not found:
            tip = f"dense: {run.dense * 100:.2f} %, {milliseconds(cell['dense_ms'])} ms"
            found.append(Spot(cell["dense_ms"], run.dense, "dense", tip))
        tip = (
            f"{run.folder.name}: {run.words}\n{run.accuracy * 100:.2f} %, "
            f"{milliseconds(cell['ms'])} ms ({cell['ran']})\n"
            + ("The machine was busy: the time is too long\n" if of_busy_machine(cell) else "")
            + "Click to open this run"
        )
        found.append(Spot(cell["ms"], run.accuracy, run.folder.name, tip, run.folder))
    return found


def missing(runs: Sequence[KnownRun], chosen: Setting | None) -> str:
    """In words, which runs are not in the picture and what would bring them there."""
    silent = sum(run.accuracy is None for run in runs)
    slow = sum(run.accuracy is not None and (not chosen or run.at(chosen) is None) for run in runs)
    where = f" at {setting_words(chosen)}" if chosen else ""
    parts = []
    if slow:
        parts.append(f"{_runs(slow)} not measured{where}: open it and press Measure")
    if silent:
        parts.append(f"{_runs(silent)} without accuracy: the plan names no data")
    return "; ".join(parts)


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


class TradeOffPlot(Plot):
    """Left and high is good. The run that is open is filled, the others are rings."""

    run_picked = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("tradeoff_plot", "Accuracy against latency, each run a point", parent)
        self.spots: Sequence[Spot] = ()
        self._open: Path | None = None
        self._title = self._note = ""
        self.setMouseTracking(True)

    def show_spots(self, found: Sequence[Spot], opened: Path | None, title: str, note: str) -> None:
        """Show spots; `opened` is the folder of the run that is open, `note` what is missing."""
        self.spots, self._open, self._title, self._note = found, opened, title, note
        self.setAccessibleDescription("; ".join(spot.tip.replace("\n", ", ") for spot in found))
        self.update()

    def draw(self, painter: QPainter, size: QSize, look: Theme) -> None:
        if not self.spots:
            return
        words(painter, QPointF(MARGIN, MARGIN), self._title, look.colour("text"), 13)
        note = QFontMetricsF(themes.font(11)).elidedText(
            self._note, Qt.TextElideMode.ElideRight, size.width() - 2 * MARGIN
        )
        words(painter, QPointF(MARGIN, MARGIN + KEY - 2), note, look.colour("faint"))
        axes = self._axes(size)
        axes.paint(painter, look)
        marks = [axes.place(spot.ms, spot.accuracy * 100) for spot in self.spots]
        taken = [QRectF(mark.x() - 6, mark.y() - 6, 12, 12) for mark in marks]
        for spot, place in zip(self.spots, marks, strict=True):
            here = spot.folder is not None and spot.folder == self._open
            colour = look.colour("leaf") if spot.folder else dense_colour(look)
            painter.setPen(QPen(colour, 2))
            painter.setBrush(colour if here else look.colour("bg"))
            if spot.folder is None:
                no_pen(painter)
                painter.setBrush(colour)
            paint_marker(painter, place, 3 if spot.folder is None else 0, 5)
            self._draw_name(painter, spot, place, axes.area, taken, look)

    def _draw_name(
        self, painter: QPainter, spot: Spot, place: QPointF, area: QRectF, taken: list[QRectF],
        look: Theme,
    ) -> None:  # fmt: skip
        """The name beside the point, where nothing stands yet; else only the tip names it."""
        wide = QFontMetricsF(themes.font(11)).horizontalAdvance(spot.name)
        for x, y in ((10, 4), (-10 - wide, 4), (-wide / 2, -10), (-wide / 2, 20)):
            box = QRectF(place.x() + x, place.y() + y - 11, wide, 14)
            inside = area.left() <= box.left() and box.right() <= area.right() + MARGIN
            if inside and not any(box.intersects(other) for other in taken):
                taken.append(box)
                words(painter, QPointF(box.left(), box.bottom() - 3), spot.name, look.colour("dim"))
                return

    def _axes(self, size: QSize) -> Axes:
        times = [spot.ms for spot in self.spots]
        heights = [spot.accuracy * 100 for spot in self.spots]
        pad = max((max(heights) - min(heights)) * 0.1, 0.5)
        top = min(max(heights) + pad, 100.0)
        upright = round_axis(min(heights) - pad, top, "accuracy, %", 4)
        flat = round_axis(0.0, max(times) * 1.08, "time of one pass, ms")
        left = MARGIN + left_room(upright)
        area = QRectF(left, MARGIN + KEY + 30, size.width() - left - MARGIN - 6, 0)
        area.setBottom(max(area.top() + 40, size.height() - MARGIN - 30))
        return Axes(area, flat, upright)

    # Pointer

    def place_of(self, spot: Spot) -> QPointF:
        """Where a spot is painted."""
        return self._axes(self.size()).place(spot.ms, spot.accuracy * 100)

    def spot_at(self, place: QPointF) -> Spot | None:
        """The spot under the pointer."""
        near = [
            ((self.place_of(spot) - place).manhattanLength(), number)
            for number, spot in enumerate(self.spots)
        ]
        distance, number = min(near, default=(1e9, 0))
        return self.spots[number] if distance <= _NEAR else None

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            spot = self.spot_at(QPointF(event.pos()))
            QToolTip.showText(event.globalPos(), spot.tip if spot else "", self)
            return True
        return super().event(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        spot = self.spot_at(event.position())
        over = spot is not None and spot.folder is not None
        self.setCursor(Qt.CursorShape.PointingHandCursor if over else Qt.CursorShape.ArrowCursor)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        spot = self.spot_at(event.position())
        if spot is not None and spot.folder and event.button() == Qt.MouseButton.LeftButton:
            self.run_picked.emit(spot.folder)
