"""What the engine wrote of a fault: the lines behind a notice."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QPlainTextEdit, QVBoxLayout, QWidget

from .look import theme
from .look.widgets import label, named


class DetailsDialog(QDialog):
    """Shows them to read and to copy."""

    def __init__(self, lines: Iterable[str], parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("details_dialog")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("What the engine said last")
        self.resize(760, 420)
        text = named(QPlainTextEdit("\n".join(lines)), "details_text", "The engine's last lines")
        text.setReadOnly(True)
        text.setFont(theme.mono(12))
        text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        box = QVBoxLayout(self)
        box.setContentsMargins(16, 14, 16, 16)
        box.addWidget(label("What the engine said last", "heading"))
        box.addWidget(text)
