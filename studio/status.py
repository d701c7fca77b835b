"""The line at the bottom: the numbers that never leave the screen, and the step undo takes back."""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QHBoxLayout, QWidget

from .look import theme
from .look.widgets import ElidedLabel, label, wrapped
from .state.numbers import Number, numbers
from .state.session import Session

_TOLD_MS = 6000


class _Figure(QWidget):
    def __init__(self, number: Number) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(label(number.name, "dim"))
        self.value = label(name=f"status_{number.name.lower()}")
        self.value.setFont(theme.font(12, QFont.Weight.Medium))
        row.addWidget(self.value)

    def show_number(self, number: Number) -> None:
        self.value.setText(number.value)
        self.setToolTip(wrapped(number.tip))
        if self.value.property("role") != number.role:
            self.value.setProperty("role", number.role)
            theme.refresh(self.value)


class StatusLine(QWidget):
    """Zeros, file, measured, accuracy; at the right the undo step or what is under way."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.setObjectName("status_line")
        self._session = session
        self._told = ""
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._forget)
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 4, 14, 4)
        row.setSpacing(26)
        self._figures = [_Figure(number) for number in numbers(session)]
        for figure in self._figures:
            row.addWidget(figure)
        self._text = ElidedLabel("dim")
        self._text.setObjectName("status_text")
        self._text.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        row.addWidget(self._text, 1)
        for signal in (
            session.model_changed, session.plan_changed, session.run_changed,
            session.busy_changed, session.undo.indexChanged,
        ):  # fmt: skip
            signal.connect(self.refresh)
        self.refresh()

    def tell(self, text: str) -> None:
        """Show a message for a few seconds where the undo step stands."""
        self._told = text
        self._timer.start(_TOLD_MS)
        self.refresh()

    def _forget(self) -> None:
        self._told = ""
        self.refresh()

    def refresh(self) -> None:
        """Show the session's numbers."""
        for figure, number in zip(self._figures, numbers(self._session), strict=True):
            figure.show_number(number)
        undo = self._session.undo.undoText()
        quiet = f"Undo: {undo}" if undo else ""
        busy = f"{self._session.busy}…" if self._session.busy else ""
        self._text.set_full(self._told or busy or quiet)
        self._text.setToolTip(wrapped(self._text.text()))
