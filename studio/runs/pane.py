"""What the strip's panes are made of: a head with a title and a figure, and lines between them."""

from __future__ import annotations

from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from ..look.widgets import named


class Pane(QWidget):
    """`content` below its title; a link beside the title, and a figure at the right."""

    def __init__(
        self, title: QLabel, value: QLabel, content: QWidget, beside: QPushButton | None = None
    ) -> None:
        super().__init__()
        head = QHBoxLayout()
        head.addWidget(title)
        if beside is not None:
            head.addWidget(beside)
        head.addStretch(1)
        head.addWidget(value)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 8, 12, 8)
        column.setSpacing(4)
        column.addLayout(head)
        column.addWidget(content, 1)


def link(text: str, name: str, tip: str) -> QPushButton:
    """A word to click."""
    button = named(QPushButton(text), name, text, tip)
    button.setProperty("role", "link")
    return button


def vertical_line() -> QFrame:
    """A line one pixel wide."""
    line = QFrame()
    line.setProperty("role", "vline")
    return line
