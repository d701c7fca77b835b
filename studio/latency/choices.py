"""Rows of chips to choose from, and a field for shares in percent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from PySide6.QtCore import QSize, Signal
from PySide6.QtWidgets import QButtonGroup, QGridLayout, QLineEdit, QToolButton, QWidget

from ..look import theme
from ..look.widgets import named

T = TypeVar("T")
Choice = tuple[str, str, str]
"""What is chosen, how it is shown, and its tooltip."""


class Chips(QWidget):
    """Chips of which some are chosen, or exactly one; in as many lines as `columns` asks for."""

    changed = Signal()

    def __init__(
        self, name: str, choices: Sequence[Choice], columns: int = 5, one: bool = False
    ) -> None:
        super().__init__()
        self.setObjectName(name)
        self._one = one
        self._buttons: dict[str, QToolButton] = {}
        self._group = QButtonGroup(self)
        self._group.setExclusive(one)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(6)
        grid.setColumnStretch(columns, 1)
        for number, (word, text, tip) in enumerate(choices):
            chip = named(QToolButton(), f"{name}_{word}".replace(":", "_"), text, tip)
            chip.setText(text)
            chip.setCheckable(True)
            chip.setProperty("role", "chip")
            self._group.addButton(chip)
            self._buttons[word] = chip
            grid.addWidget(chip, number // columns, number % columns)
        self._group.buttonClicked.connect(lambda _: self.changed.emit())

    @property
    def chosen(self) -> tuple[str, ...]:
        """The words that are chosen, in the order of the chips."""
        return tuple(word for word, chip in self._buttons.items() if chip.isChecked())

    def choose(self, words: Sequence[str]) -> None:
        """Choose exactly these words; emits nothing."""
        for word, chip in self._buttons.items():
            chip.setChecked(word in words)

    def chip(self, word: str) -> QToolButton:
        """The chip of a word."""
        return self._buttons[word]


class Percents(QLineEdit):
    """Shares of 0..1, shown in percent with commas between them."""

    def __init__(self, name: str, accessible: str, tip: str) -> None:
        super().__init__()
        named(self, name, accessible, tip)

    @property
    def shares(self) -> tuple[float, ...] | None:
        """The shares, None where the text is not such a list or a share is not in [0, 1)."""
        words = self.text().replace("%", " ").replace(";", ",").replace(",", " ").split()
        try:
            found = tuple(float(word) / 100 for word in words)
        except ValueError:
            return None
        return found if found and all(0 <= share < 1 for share in found) else None

    def show_shares(self, shares: Sequence[float]) -> None:
        """Show shares."""
        self.setText(", ".join(f"{share * 100:g}" for share in shares) + " %")

    def mark(self) -> None:
        """Show in red that the text is no list of shares."""
        invalid = "true" if self.shares is None else "false"
        if self.property("invalid") != invalid:
            self.setProperty("invalid", invalid)
            theme.refresh(self)

    def sizeHint(self) -> QSize:
        return QSize(160, super().sizeHint().height())
