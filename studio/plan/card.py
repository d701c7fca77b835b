"""The cards of the plan panel: what a choice means, beside the choice."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from ..look import theme
from ..look.widgets import label, named


class Card(QFrame):
    """A headline, a line of details, and what can be clicked."""

    def __init__(self, name: str, action: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self.setProperty("role", "card")
        self.head = label(role="strong", name=f"{name}_head")
        self.head.setWordWrap(True)
        self.details = label(role="dim", name=f"{name}_details")
        self.details.setWordWrap(True)
        self.action = named(QPushButton(action), f"{name}_action", action)
        self.action.hide()
        self.action.setProperty("role", "link")
        top = QHBoxLayout()
        top.addWidget(self.head, 1)
        top.addWidget(self.action, 0, Qt.AlignmentFlag.AlignTop)
        self._box = QVBoxLayout(self)
        self._box.setContentsMargins(11, 9, 11, 9)
        self._box.setSpacing(3)
        self._box.addLayout(top)
        self._box.addWidget(self.details)

    def say(self, headline: str, details: str, role: str = "strong") -> None:
        """Show a headline in a role of the stylesheet (strong, good, warn, error)."""
        # A number and its unit stay on one line.
        self.head.setText(headline.replace(" %", "\N{NO-BREAK SPACE}%"))
        self.details.setText(details.replace(" %", "\N{NO-BREAK SPACE}%"))
        self.details.setVisible(bool(details))
        if self.head.property("role") != role:
            self.head.setProperty("role", role)
            theme.refresh(self.head)

    def links_below(self, *more: QPushButton) -> None:
        """Let the action and `more` stand in a line of their own, below what may be long."""
        line = QHBoxLayout()
        line.setContentsMargins(0, 2, 0, 0)
        line.setSpacing(12)
        for button in (self.action, *more):
            button.setProperty("role", "link")
            line.addWidget(button)
        line.addStretch()
        self._box.addLayout(line)
