"""Chips at the right of a bar, which show their icons where it has no room for their words."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QToolButton, QWidget


class ChipRow(QWidget):
    """A row of tool buttons; those without an icon keep their words."""

    def __init__(self, name: str, *chips: QToolButton) -> None:
        super().__init__()
        self.setObjectName(name)
        self._chips = chips
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(8)
        self._row.addStretch()
        for chip in chips:
            self._row.addWidget(chip)
        self._all_words = self._icons = QSize()
        self.refit()

    def refit(self) -> None:
        """Find anew how much room is needed: an icon or a word has changed."""
        self._icons = self._sized(narrow=True)
        self._all_words = self._sized(narrow=False)
        self.updateGeometry()
        self._fold()

    def sizeHint(self) -> QSize:
        return self._all_words

    def minimumSizeHint(self) -> QSize:
        return self._icons

    def _sized(self, narrow: bool) -> QSize:
        icons, words = Qt.ToolButtonStyle.ToolButtonIconOnly, Qt.ToolButtonStyle.ToolButtonTextOnly
        for chip in self._chips:
            chip.setToolButtonStyle(words if chip.icon().isNull() or not narrow else icons)
        self._row.invalidate()
        return self._row.sizeHint()

    def _fold(self) -> None:
        self._sized(narrow=self.width() < self._all_words.width())

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.refit()  # before, the stylesheet had no say

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fold()
