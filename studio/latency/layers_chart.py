"""Dense against what ran, layer by layer as they finish; a row opens to every other candidate."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QKeyEvent, QMouseEvent, QPainter
from PySide6.QtWidgets import QWidget

from ..look import theme as themes
from ..look.theme import Theme
from .columns import Columns
from .plot import KEY, MARGIN, Plot, dense_colour, milliseconds, paint_key, words
from .rows import ROLES, Row

_FIRST, _MORE, _WHOLE, _LINE = 44.0, 34.0, 56.0, 19.0
_HEAD = KEY + 16
_ROOM = 1.25
"""How much farther than the longest bar of a row its whiskers may reach."""
_KEYS = (("faster", "faster"), ("same", "no faster, stays dense"),
         ("slower", "slower, stays dense"),
         ("busy", "machine busy"), ("failed", "not measured"))  # fmt: skip


class LayersChart(Plot):
    """A row per cell; `opened` are the keys of rows that show everything that was tried."""

    picked = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("latency_chart", "Measured latencies, dense against sparse", parent)
        self.rows: list[Row] = []
        self.opened: set[tuple[Any, ...]] = set()
        self._current: str | None = None
        self._pointed = -1
        self._focused = 0
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def show_rows(self, rows: list[Row], current: str | None) -> None:
        """Show rows; those of the layer `current` stand out."""
        self.rows, self._current = rows, current
        self._focused = min(self._focused, max(len(rows) - 1, 0))
        self._relay()

    def open_row(self, wanted: tuple[Any, ...]) -> QRectF:
        """Open the row of a cell; gives its place, empty if there is none."""
        for number, row in enumerate(self.rows):
            if row.key == wanted:
                self.opened.add(wanted)
                self._focused = number
                self._relay()
                return self.place(number)
        return QRectF()

    def place(self, number: int) -> QRectF:
        """Where a row lies."""
        top = MARGIN / 2 + _HEAD + sum(self._height(row) for row in self.rows[:number])
        return QRectF(0, top, self.width(), self._height(self.rows[number]))

    def sizeHint(self) -> QSize:
        rows = sum(self._height(row) for row in self.rows)
        return QSize(320, round(_HEAD + rows + 1.5 * MARGIN))

    def picture_size(self) -> QSize:
        """All rows, also those that are scrolled away."""
        return QSize(max(self.width(), 640), self.sizeHint().height())

    def _relay(self) -> None:
        self.setMinimumHeight(self.sizeHint().height())
        self.setAccessibleDescription(
            "; ".join(f"{row.name}, {row.how}: {row.headline}" for row in self.rows[:40])
        )
        self.update()

    def _height(self, row: Row) -> float:
        height = _WHOLE if row.whole else _FIRST if row.first else _MORE
        if row.key in self.opened:
            height += _LINE * (len(row.tried) + len(row.sentences)) + 8
        return height

    # Painting

    def draw(self, painter: QPainter, size: QSize, look: Theme) -> None:
        if not self.rows:
            return
        seen = painter.clipBoundingRect() if painter.hasClipping() else QRectF(0, 0, 1e6, 1e9)
        columns = self._columns(size.width())
        base = MARGIN / 2 + 14
        kinds = {row.kind for row in self.rows}
        key = [(dense_colour(look), "dense")]
        key += [(look.colour(ROLES[kind]), text) for kind, text in _KEYS if kind in kinds]
        paint_key(painter, MARGIN, base, size.width() - 2 * MARGIN, key)
        y = MARGIN / 2 + _HEAD
        for number, row in enumerate(self.rows):
            height = self._height(row)
            box = QRectF(0, y, size.width(), height)
            if box.intersects(seen):
                self._draw_row(painter, number, box, columns[row.whole], look)
            y += height

    def _columns(self, width: float) -> dict[bool, Columns]:
        """The columns of whole models and of layers, each with a scale of its own."""
        names, small = QFontMetricsF(themes.font(13)), QFontMetricsF(themes.font(11))
        longest = max(
            max(names.horizontalAdvance(row.name), small.horizontalAdvance(row.how))
            for row in self.rows
        )
        text = max(max(small.horizontalAdvance(row.times) for row in self.rows), 84.0)
        left = MARGIN + min(longest + 26, max(width * 0.27, 96.0))
        room = max(24.0, width - MARGIN - text - 16 - left)
        scales = {}
        for whole in (True, False):
            most = max((row.longest for row in self.rows if row.whole is whole), default=0.0)
            limit = most * _ROOM or 1.0
            scales[whole] = Columns(left, room / limit, limit)
        return scales

    def _draw_row(
        self, painter: QPainter, number: int, box: QRectF, columns: Columns, look: Theme
    ) -> None:
        row, left = self.rows[number], columns.left
        if row.cell["layer"] is not None and row.cell["layer"] == self._current:
            painter.fillRect(box, look.colour("leaf", 0.09))
        if number == self._pointed or (self.hasFocus() and number == self._focused):
            painter.fillRect(box, look.colour("text", 0.05))
        if row.first and number:
            painter.setPen(look.colour("line"))
            painter.drawLine(QPointF(MARGIN, box.top()), QPointF(box.right() - MARGIN, box.top()))
        head = _WHOLE if row.whole else _FIRST if row.first else _MORE
        middle = box.top() + head / 2
        self._draw_names(painter, row, middle, left, look)
        self._draw_mark(painter, row, middle, look)
        if row.cell.get("error"):
            text = QFontMetricsF(themes.font(12)).elidedText(
                str(row.cell["error"]), Qt.TextElideMode.ElideRight, box.right() - MARGIN - left
            )
            words(painter, QPointF(left, middle - 2), row.headline, look.colour("rose"), 12)
            words(painter, QPointF(left, middle + 13), text, look.colour("dim"))
        else:
            self._draw_pair(painter, row, middle, columns, look)
        if row.key in self.opened:
            self._draw_opened(painter, row, box.top() + head, columns, look)

    def _draw_names(
        self, painter: QPainter, row: Row, middle: float, left: float, look: Theme
    ) -> None:
        thin = QFontMetricsF(themes.font(11))
        room = left - MARGIN - 18
        base = middle + 4
        if row.first:
            heavy = row.whole or row.cell["layer"] == self._current
            weight = QFont.Weight.DemiBold if heavy else QFont.Weight.Normal
            font = themes.font(13, weight)
            painter.setFont(font)
            painter.setPen(look.colour("text"))
            name = QFontMetricsF(font).elidedText(row.name, Qt.TextElideMode.ElideMiddle, room)
            painter.drawText(QPointF(MARGIN, middle - 2), name)
            base = middle + 13
        how = thin.elidedText(row.how, Qt.TextElideMode.ElideRight, room)
        words(painter, QPointF(MARGIN, base), how, look.colour("dim"))

    def _draw_mark(self, painter: QPainter, row: Row, middle: float, look: Theme) -> None:
        """The triangle that says that a row opens."""
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(look.colour("faint"))
        painter.translate(MARGIN - 12, middle)
        if row.key in self.opened:
            painter.rotate(90)
        painter.drawPolygon([QPointF(-2, -3.5), QPointF(2.5, 0), QPointF(-2, 3.5)])
        painter.restore()

    def _draw_pair(
        self, painter: QPainter, row: Row, middle: float, columns: Columns, look: Theme
    ) -> None:
        cell, colour = row.cell, look.colour(ROLES[row.kind])
        thick = 11.0 if row.whole else 8.0
        for name, paint, top in (
            ("dense_", dense_colour(look), middle - thick - 1.5),
            ("", colour, middle + 1.5),
        ):
            values = cell[f"{name}ms"], cell.get(f"{name}q1_ms"), cell.get(f"{name}q3_ms")
            columns.paint(painter, top, thick, values, paint, look)
        end = columns.end(row.slowest) + 12
        painter.setFont(themes.font(12, QFont.Weight.DemiBold))
        ink = {"same": "text", "busy": "amber"}.get(row.kind, ROLES[row.kind])
        painter.setPen(look.colour(ink))
        painter.drawText(QPointF(end, middle - 2), row.headline)
        if cell.get("cached"):
            wide = QFontMetricsF(painter.font()).horizontalAdvance(row.headline)
            words(painter, QPointF(end + wide + 8, middle - 2), "cached", look.colour("faint"))
        words(painter, QPointF(end, middle + 13), row.times, look.colour("dim"))

    def _draw_opened(
        self, painter: QPainter, row: Row, top: float, columns: Columns, look: Theme
    ) -> None:
        metrics = QFontMetricsF(themes.font(11))
        quiet = QColor(look.mix(look.dim, look.bg, 0.35))
        for one in row.tried:
            base = top + 12
            name = metrics.elidedText(
                str(one["path"]), Qt.TextElideMode.ElideRight, columns.left - MARGIN - 30
            )
            words(painter, QPointF(MARGIN + 12, base), name, look.colour("dim"))
            values = one["ms"], one.get("q1_ms"), one.get("q3_ms")
            columns.paint(painter, base - 8, 6, values, quiet, look)
            end = columns.end(max(one["ms"], one["q3_ms"]))
            cut = "» " if one["ms"] > columns.limit else ""
            ratio = row.cell["dense_ms"] / one["ms"]
            text = f"{cut}{milliseconds(one['ms'])} ms · {ratio:.2f}×"
            words(painter, QPointF(end + 12, base), text, look.colour("dim"))
            top += _LINE
        for line in row.sentences:
            words(painter, QPointF(MARGIN + 12, top + 13), line, look.colour("text"), 12)
            top += _LINE

    # Mouse and keys

    def row_at(self, y: float) -> int:
        """The number of the row at a height, -1 for none."""
        top = MARGIN / 2 + _HEAD
        for number, row in enumerate(self.rows):
            top += self._height(row)
            if y < top:
                return number if y >= MARGIN / 2 + _HEAD else -1
        return -1

    def toggle(self, number: int) -> None:
        """Open or close a row, and select its layer."""
        row = self.rows[number]
        self.opened ^= {row.key}
        self._focused = number
        self._relay()
        if row.cell["layer"] is not None:
            self.picked.emit(row.cell["layer"])

    def mousePressEvent(self, event: QMouseEvent) -> None:
        number = self.row_at(event.position().y())
        if number >= 0 and event.button() == Qt.MouseButton.LeftButton:
            self.toggle(number)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        number = self.row_at(event.position().y())
        if number != self._pointed:
            self._pointed = number
            hand = Qt.CursorShape.PointingHandCursor if number >= 0 else Qt.CursorShape.ArrowCursor
            self.setCursor(hand)
            said = "\n".join(self.rows[number].sentences) if number >= 0 else ""
            self.setToolTip(said)
            self.update()

    def leaveEvent(self, event: QEvent) -> None:
        self._pointed = -1
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1}.get(Qt.Key(event.key()))
        if not self.rows:
            super().keyPressEvent(event)
        elif step is not None:
            self._focused = min(max(self._focused + step, 0), len(self.rows) - 1)
            self.update()
        elif event.key() in (Qt.Key.Key_Space, Qt.Key.Key_Return):
            self.toggle(self._focused)
        else:
            super().keyPressEvent(event)


__all__ = ["LayersChart"]
