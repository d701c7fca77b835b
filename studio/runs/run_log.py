"""The run's log: selectable, and it follows its end only while the person looks at the end."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QFontMetricsF, QTextBlockFormat, QTextCursor
from PySide6.QtWidgets import QTextEdit, QWidget

from ..look.theme import mono

_LINES = 400
_TIME = "00:00:00  "
_FIXED_SPACE = "\N{NO-BREAK SPACE}"


class RunLog(QTextEdit):
    """Shows (time, text) lines, oldest first."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("run_log")
        self.setAccessibleName("Log of the run")
        self.setProperty("role", "log")
        self.setReadOnly(True)
        self.setUndoRedoEnabled(False)
        self.setStyleSheet("QTextEdit { font-size: 11px; padding: 0; }")
        self.setFont(mono())
        self.document().setMaximumBlockCount(_LINES)
        self.document().setDocumentMargin(0)
        self._lines = QTextBlockFormat()
        hang = QFontMetricsF(mono()).horizontalAdvance(_TIME)
        self._lines.setLeftMargin(hang)  # what wraps stands beside the time, not below it
        self._lines.setTextIndent(-hang)
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
            self._append(f"{time}  {text}".strip().replace(" %", f"{_FIXED_SPACE}%"))
        if follows:
            bar.setValue(bar.maximum())

    def _append(self, line: str) -> None:
        end = QTextCursor(self.document())
        end.movePosition(QTextCursor.MoveOperation.End)
        if self.document().isEmpty():
            end.setBlockFormat(self._lines)
        else:
            end.insertBlock(self._lines)
        end.insertText(line)

    def _fresh(self, log: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...] | None:
        """What `log` has after the lines that are shown, None if it is another log."""
        if not self._shown:
            return log
        for place in range(len(log) - 1, -1, -1):
            if log[place] is self._shown[-1]:
                return log[place + 1 :]
        return None
