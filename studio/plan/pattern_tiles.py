"""Patterns chosen by their picture: one tile each, painted from the pattern's own example mask."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import numpy as np
from PySide6.QtCore import QEvent, QObject, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QGridLayout, QWidget

from ...engine.patterns import PATTERNS, Pattern
from ..look.picture_button import PictureButton
from ..look.theme import font, theme_of

_MOST_COLUMNS = 5
# Both are whole pixels for each of the example's 12 cells.
_PICTURE, _SMALL_PICTURE = 48, 36


class Tile(PictureButton):
    """One pattern: its example mask, kept entries in leaf, and its name."""

    def __init__(self, pattern: type[Pattern], picture: int, parent: QWidget | None = None) -> None:
        super().__init__(pattern.label or pattern.kind, parent)
        self.kind = pattern.kind
        self._picture = picture
        self._mask: np.ndarray | None = None
        self._summary = pattern.summary()
        self.setObjectName(f"tile_{pattern.kind}")
        self.setAccessibleName(f"Pattern {self.text()}")
        self.set_reason("")

    def set_mask(self, mask: np.ndarray) -> None:
        """Show a mask, uint8 or bool [rows, columns], non-zero = kept."""
        self._mask = np.asarray(mask) != 0
        self.update()

    def set_reason(self, reason: str) -> None:
        """Say why the pattern can't be chosen; empty: it can."""
        self.setEnabled(not reason)
        self.setToolTip(f"<b>{self.text()}</b><br>{reason or self._summary}")
        self.setAccessibleDescription(reason or self._summary)

    def sizeHint(self) -> QSize:
        return QSize(64, self._picture + 32)

    def minimumSizeHint(self) -> QSize:
        return QSize(self._picture + 10, self._picture + 32)

    def paintEvent(self, event: QPaintEvent) -> None:
        look = theme_of(self)
        painter = QPainter(self)
        self._paint_frame(painter)
        self._paint_mask(painter, 1.0 if self.isEnabled() else 0.3)
        room = self.width() - 4
        painter.setFont(font(11))
        if painter.fontMetrics().horizontalAdvance(self.text()) > room:
            painter.setFont(font(10))  # a narrow panel: rather small than cut
        words = QRectF(0, self._picture + 10, self.width(), 18)
        ink = look.colour("text" if self.isChecked() else "dim", 1.0 if self.isEnabled() else 0.55)
        painter.setPen(ink)
        name = painter.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, room)
        painter.drawText(words, Qt.AlignmentFlag.AlignCenter, name)
        painter.end()

    def _paint_mask(self, painter: QPainter, opacity: float) -> None:
        look = theme_of(self)
        left = (self.width() - self._picture) // 2
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.setOpacity(opacity)
        painter.fillRect(left, 9, self._picture, self._picture, look.colour("line"))
        if self._mask is not None:
            rows, columns = self._mask.shape
            high, wide = self._picture / rows, self._picture / columns
            leaf = look.colour("leaf")
            for row, column in np.argwhere(self._mask):
                cell = QRectF(left + column * wide, 9 + row * high, wide, high)
                painter.fillRect(cell, leaf)
        painter.setOpacity(1.0)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)


class PatternTiles(QWidget):
    """All patterns as tiles, one of them chosen; `chosen` carries a kind that the person picked.

    Tab enters at the chosen tile, the arrow keys walk, Space or Enter chooses.
    """

    chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("pattern_tiles")
        self._group = QButtonGroup(self)
        self._tiles: dict[str, Tile] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(7)
        patterns = list(PATTERNS)
        # As few rows as will do, and those as full as they can be.
        rows = ceil(len(patterns) / _MOST_COLUMNS)
        columns = ceil(len(patterns) / rows)
        picture = _PICTURE if columns < _MOST_COLUMNS and rows < 3 else _SMALL_PICTURE
        self._steps = {
            Qt.Key.Key_Left: -1,
            Qt.Key.Key_Right: 1,
            Qt.Key.Key_Up: -columns,
            Qt.Key.Key_Down: columns,
        }
        for index, pattern in enumerate(patterns):
            tile = Tile(pattern, picture, self)
            tile.installEventFilter(self)
            self._tiles[pattern.kind] = tile
            self._group.addButton(tile)
            grid.addWidget(tile, index // columns, index % columns)
        for column in range(columns):
            grid.setColumnStretch(column, 1)
        self.setMinimumHeight(rows * (picture + 39) - 7)
        self._group.buttonClicked.connect(self._clicked)

    @property
    def current(self) -> str | None:
        """The kind of the chosen tile, None if there is none."""
        tile = self._group.checkedButton()
        return tile.kind if isinstance(tile, Tile) else None

    def set_current(self, kind: str | None) -> None:
        """Mark one tile, or none; emits nothing."""
        if kind is not None and kind in self._tiles:
            self._tiles[kind].setChecked(True)
            return
        self._group.setExclusive(False)
        for tile in self._tiles.values():
            tile.setChecked(False)
        self._group.setExclusive(True)

    def set_examples(self, masks: Mapping[str, np.ndarray]) -> None:
        """Paint the tiles from example masks by kind."""
        for kind, mask in masks.items():
            if kind in self._tiles:
                self._tiles[kind].set_mask(mask)

    def set_reasons(self, reasons: Mapping[str, str]) -> None:
        """Disable the kinds that have a reason, enable the others."""
        for kind, tile in self._tiles.items():
            tile.set_reason(reasons.get(kind, ""))

    def tile(self, kind: str) -> Tile:
        """The tile of a kind; raises KeyError."""
        return self._tiles[kind]

    def _clicked(self, tile: QAbstractButton) -> None:
        assert isinstance(tile, Tile)
        self.chosen.emit(tile.kind)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        pressed = isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress
        if not pressed or not isinstance(watched, Tile) or not isinstance(event, QKeyEvent):
            return False
        key = Qt.Key(event.key())
        if key in self._steps:
            self._walk(watched, self._steps[key])
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            watched.click()
        else:
            return False
        return True

    def _walk(self, start: Tile, step: int) -> None:
        tiles = list(self._tiles.values())
        place = tiles.index(start) + step
        while 0 <= place < len(tiles):
            if tiles[place].isEnabled():
                tiles[place].setFocus(Qt.FocusReason.TabFocusReason)
                return
            place += step
