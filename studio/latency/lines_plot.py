"""Curves of latency with quartiles, the dense line, and where each begins to pay."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFontMetricsF, QHelpEvent, QMouseEvent, QPainter, QPen, QPolygonF
from PySide6.QtWidgets import QToolTip, QWidget

from ..look import theme as themes
from ..look.theme import Theme
from .axes import Axes, Axis, left_room, log_axis, no_pen, paint_marker, round_axis
from .plot import KEY, MARGIN, Plot, words
from .series import Crossing, Point, Series

_ROOM = 1.3
"""How far above the highest median whiskers may reach."""
_NEAR = 12.0
"""Pixels around a point that count as on it."""
_BUSY = "machine busy"


def curve_colour(look: Theme, number: int) -> QColor:
    """The colour of a curve; readable on the theme's ground, apart for colour-blind eyes."""
    dark = ("#7cc576", "#6ea8dc", "#e0a84c", "#c792d8", "#56c2b6", "#e58a63", "#d3cf72", "#b3bac4")
    light = ("#2f7a36", "#2a68a4", "#8a5a10", "#7b3f96", "#0d7168", "#a3461c", "#66640c", "#4b535d")
    return QColor((dark if look.dark else light)[number % 8])


class LinesPlot(Plot):
    """Over sparsity with equal steps, or over batch size with equal factors on both axes."""

    pair_picked = Signal(object)

    def __init__(self, name: str, accessible: str, batches: bool = False,
                 parent: QWidget | None = None) -> None:  # fmt: skip
        super().__init__(name, accessible, parent)
        self.series: Sequence[Series] = ()
        self.crossings: Sequence[Crossing] = ()
        self._batches = batches
        self._title = ""
        self.setMouseTracking(True)

    def show_series(
        self, series: Sequence[Series], crossings: Sequence[Crossing] = (), title: str = ""
    ) -> None:
        """Show curves, dense first; `title` says of what."""
        self.series, self.crossings, self._title = series, crossings, title
        said = [f"{c.name} pays from {c.x * 100:.0f} % on" for c in crossings]
        self.setAccessibleDescription("; ".join([title, *(s.name for s in series), *said]))
        self.update()

    def draw(self, painter: QPainter, size: QSize, look: Theme) -> None:
        if not self.series:
            return
        words(painter, QPointF(MARGIN, MARGIN), self._title, look.colour("text"), 13)
        places = self._key(size.width())
        for (number, series), place in zip(enumerate(self.series), places, strict=False):
            self._draw_key(painter, place, series, number, look)
        if self._busy:
            _mark(painter, places[-1] + QPointF(10, -4), 0, look.colour("dim"), look, hollow=True)
            words(painter, places[-1] + QPointF(26, 0), _BUSY, look.colour("dim"))
        axes = self._axes(size)
        axes.paint(painter, look)
        for number, series in enumerate(self.series):
            self._draw_series(painter, axes, series, number, look)
        self._draw_crossings(painter, axes, look)

    @property
    def _busy(self) -> bool:
        """Whether any point that is drawn is hollow."""
        return any(
            point.busy
            for series in self.series
            for point in series.points
            if self._batches or not series.dense
        )

    def _key(self, width: float) -> list[QPointF]:
        """Where the curves' names and the word for hollow points stand, in lines as they fit."""
        metrics = QFontMetricsF(themes.font(11))
        x, base, places = MARGIN, MARGIN + KEY, []
        names = [series.name for series in self.series] + [_BUSY] * self._busy
        for name in names:
            wide = 26 + metrics.horizontalAdvance(name)
            if x > MARGIN and x + wide > width - MARGIN:
                x, base = MARGIN, base + 18
            places.append(QPointF(x, base))
            x += wide + 16
        return places

    def _draw_key(
        self, painter: QPainter, place: QPointF, series: Series, number: int, look: Theme
    ) -> None:
        colour = self._colour(number, series, look)
        style = Qt.PenStyle.DashLine if series.dense else Qt.PenStyle.SolidLine
        painter.setPen(QPen(colour, 1.75, style))
        painter.drawLine(place + QPointF(0, -4), place + QPointF(20, -4))
        if not series.dense:
            _mark(painter, place + QPointF(10, -4), number - 1, colour, look)
        words(painter, place + QPointF(26, 0), series.name, look.colour("dim"))

    def _colour(self, number: int, series: Series, look: Theme) -> QColor:
        return look.colour("dim") if series.dense else curve_colour(look, number - 1)

    def _axes(self, size: QSize) -> Axes:
        points = [point for series in self.series for point in series.points]
        # A whisker of a busy machine would press all curves flat: it is cut at the top.
        most = max(point.ms for point in points) * _ROOM
        low = min(min(point.low or point.ms, point.ms) for point in points)
        high = min(max(point.high or point.ms for point in points), most)
        upright = log_axis(low, high, "ms") if self._batches else round_axis(0, high, "ms")
        if self._batches:
            found = sorted({point.x for point in points})
            ticks = tuple((x, f"{x:.0f}") for x in found)
            flat = Axis(found[0] / 1.15, found[-1] * 1.15, "batch size", ticks, log=True)
        else:
            shares = [n / 10 for n in range(11)]
            flat = Axis(0.0, 1.0, "sparsity", tuple((s, f"{s * 100:.0f} %") for s in shares))
        left = MARGIN + left_room(upright)
        top = self._key(size.width())[-1].y()
        area = QRectF(left, top + 30, size.width() - left - MARGIN - 6, 0)
        area.setBottom(max(area.top() + 40, size.height() - MARGIN - 30))
        return Axes(area, flat, upright)

    def _draw_crossings(self, painter: QPainter, axes: Axes, look: Theme) -> None:
        """A mark on the dense line where each pattern begins to pay, with its share."""
        for level, crossing in enumerate(sorted(self.crossings, key=lambda one: one.x)):
            number = next((n for n, s in enumerate(self.series) if s.name == crossing.name), 1)
            colour = self._colour(number, self.series[number], look)
            x = axes.place(crossing.x, axes.y.low).x()
            painter.setPen(QPen(colour, 1, Qt.PenStyle.DotLine))
            painter.drawLine(QPointF(x, axes.area.top()), QPointF(x, axes.area.bottom()))
            text = f"{crossing.name} pays from {crossing.x * 100:.0f} %"
            wide = QFontMetricsF(themes.font(11)).horizontalAdvance(text)
            right = x + 6 + wide > axes.area.right()
            place = QPointF(x - 6 if right else x + 6, axes.area.bottom() - 8 - 17 * level)
            ground = QRectF(place.x() - (wide if right else 0) - 3, place.y() - 12, wide + 6, 16)
            painter.fillRect(ground, look.colour("bg", 0.9))
            words(painter, place, text, colour, 11, "right" if right else "left")

    def _draw_series(
        self, painter: QPainter, axes: Axes, series: Series, number: int, look: Theme
    ) -> None:
        colour = self._colour(number, series, look)
        style = Qt.PenStyle.DashLine if series.dense else Qt.PenStyle.SolidLine
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        placed = [axes.place(point.x, point.ms) for point in series.points]
        if series.dense and not self._batches:
            # Dense is one and the same whatever the sparsity: a level line over the whole width.
            placed = [axes.place(0.0, series.level), axes.place(1.0, series.level)]
        painter.setPen(QPen(colour, 1.75, style))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF(placed))
        if series.dense and not self._batches:
            return
        for point, place in zip(series.points, placed, strict=True):
            if point.low is not None and point.high is not None:
                painter.setPen(QPen(_paler(colour) if point.busy else colour, 1))
                top = min(point.high, axes.y.high)
                painter.drawLine(axes.place(point.x, point.low), axes.place(point.x, top))
            shape = 0 if series.dense else number - 1
            _mark(painter, place, shape, colour, look, hollow=point.busy)

    # Pointer

    def point_at(self, place: QPointF) -> Point | None:
        """The measured point under the pointer."""
        if not self.series:
            return None
        axes = self._axes(self.size())
        sparse = [point for series in self.series if not series.dense for point in series.points]
        near = [
            ((axes.place(p.x, p.ms) - place).manhattanLength(), n) for n, p in enumerate(sparse)
        ]
        distance, number = min(near, default=(1e9, 0))
        return sparse[number] if distance <= _NEAR else None

    def place_of(self, point: Point) -> QPointF:
        """Where a point is painted."""
        return self._axes(self.size()).place(point.x, point.ms)

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            point = self.point_at(QPointF(event.pos()))
            QToolTip.showText(event.globalPos(), point.tip if point else "", self)
            return True
        return super().event(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        over = self.point_at(event.position()) is not None
        self.setCursor(Qt.CursorShape.PointingHandCursor if over else Qt.CursorShape.ArrowCursor)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        point = self.point_at(event.position())
        if point is not None and event.button() == Qt.MouseButton.LeftButton:
            self.pair_picked.emit(point.cell)


def _mark(
    painter: QPainter, place: QPointF, shape: int, colour: QColor, look: Theme, hollow: bool = False
) -> None:
    """The mark of a measured point; hollow where the machine was busy."""
    if hollow:
        painter.setPen(QPen(colour, 1.25))
        painter.setBrush(look.colour("bg"))
    else:
        no_pen(painter)
        painter.setBrush(colour)
    paint_marker(painter, place, shape, 3.5)


def _paler(colour: QColor) -> QColor:
    pale = QColor(colour)
    pale.setAlphaF(0.45)
    return pale
