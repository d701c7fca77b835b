"""The run's log: selectable, and it follows its end only while the person looks at the end."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QPlainTextEdit, QWidget

from ..look.theme import mono

_LINES = 400


class RunLog(QPlainTextEdit):
    """Shows (time, text) lines, oldest first."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("run_log")
        self.setAccessibleName("Log of the run")
        self.setProperty("role", "log")
        self.setReadOnly(True)
        self.setMaximumBlockCount(_LINES)
        self.setStyleSheet("QPlainTextEdit { font-size: 11px; padding: 0; }")
        self.setFont(mono())
        self.document().setDocumentMargin(0)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)  # lines wrap
        self._shown: tuple[tuple[str, str], ...] = ()

    def show_log(self, log: tuple[tuple[str, str], ...]) -> None:
        """Show a log; lines that are already there stay, so that a selection lives on."""
        fresh = self._fresh(log)
        if fresh is None:
            self.clear()
            fresh = log
        self._shown = log
        if not fresh:
            return
        bar = self.verticalScrollBar()
        follows = bar.value() >= bar.maximum() - 2
        for time, text in fresh:
            self.appendPlainText(f"{time}  {text}".strip())
        if follows:
            bar.setValue(bar.maximum())

    def _fresh(self, log: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...] | None:
        """What `log` has after the lines that are shown, None if it is another log."""
        if not self._shown:
            return log
        for place in range(len(log) - 1, -1, -1):
            if log[place] is self._shown[-1]:
                return log[place + 1 :]
        return None
