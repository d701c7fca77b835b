"""A field for several numbers: words with commas between them."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QLineEdit, QWidget

from ...engine.errors import BadInput
from ...engine.settings import Field, coerce


class NumberList(QLineEdit):
    """Edits a tuple of numbers; `edited` carries it, or the text itself where it is none.

    What is wrong with such a text the settings object says, which refuses it.
    """

    edited = Signal(object)

    def __init__(self, field: Field, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._field = field
        self.editingFinished.connect(lambda: self.edited.emit(self._value()))

    def show_numbers(self, numbers: tuple[float, ...]) -> None:
        """Show numbers; emits nothing."""
        self.setText(", ".join(f"{number:.10g}" for number in numbers))

    def _value(self) -> tuple[float, ...] | str:
        try:
            found: tuple[float, ...] = coerce(self.text(), self._field, "")
        except BadInput:
            return self.text()
        return found
