"""Small makers of labelled, named widgets, so that panels read as what they hold."""

from __future__ import annotations

import textwrap
from typing import TypeVar

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QAction, QResizeEvent
from PySide6.QtWidgets import QFrame, QLabel, QPushButton, QWidget

W = TypeVar("W", bound=QWidget)

BY_KEYBOARD = (
    Qt.FocusReason.TabFocusReason,
    Qt.FocusReason.BacktabFocusReason,
    Qt.FocusReason.ShortcutFocusReason,
)
"""Reasons of a focus that is worth a ring: the person walks by keys."""

_TIP = 60
"""Characters in a line of a tooltip: about 360 pixels."""


def wrapped(text: str) -> str:
    """The text in short lines, for a tooltip: Qt wraps one only where the screen ends."""
    return "\n".join(textwrap.fill(line, _TIP, break_long_words=False) for line in text.split("\n"))


def named(widget: W, name: str, accessible: str = "", tip: str = "") -> W:
    """Give a widget its object name, its accessible name and its tooltip."""
    widget.setObjectName(name)
    widget.setAccessibleName(accessible or name.replace("_", " "))
    if tip:
        widget.setToolTip(wrapped(tip))
    return widget


def label(text: str = "", role: str = "", name: str = "") -> QLabel:
    """A label with a role of the stylesheet."""
    made = QLabel(text)
    made.setTextFormat(Qt.TextFormat.PlainText)
    if role:
        made.setProperty("role", role)
    if name:
        made.setObjectName(name)
    return made


def hairline() -> QFrame:
    """A line one pixel high."""
    line = QFrame()
    line.setProperty("role", "hairline")
    return line


def tip_of(action: QAction, text: str) -> str:
    """A tooltip that ends with the action's shortcut."""
    keys = action.shortcut().toString()
    return wrapped(f"{text}  {keys}" if keys else text)


class ActionButton(QPushButton):
    """A push button that is one QAction: its text, state, tooltip and shortcut.

    `text` stands in the place of the action's, `sign` before it.
    """

    def __init__(
        self, action: QAction, name: str, text: str = "", role: str = "", sign: str = ""
    ) -> None:
        super().__init__()
        self._action = action
        self._text, self._sign = text, sign
        named(self, name, action.text().replace("&", ""))
        # A click leaves the focus where it was: the button may be off a moment later.
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        if role:
            self.setProperty("role", role)
        self.clicked.connect(action.trigger)
        action.changed.connect(self._follow)
        self._follow()

    def _follow(self) -> None:
        self.setText(self._sign + (self._text or self._action.text().replace("&", "")))
        self.setEnabled(self._action.isEnabled())
        self.setToolTip(self._action.toolTip())


class ElidedLabel(QLabel):
    """A label that shortens its text in the middle to the width that it has."""

    def __init__(self, role: str = "") -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self._full = ""
        if role:
            self.setProperty("role", role)
        self.setMinimumWidth(24)

    def set_full(self, text: str) -> None:
        """Show `text`, shortened where there is no room."""
        self._full = text
        self.updateGeometry()
        self._elide()

    def sizeHint(self) -> QSize:
        return QSize(
            self.fontMetrics().horizontalAdvance(self._full) + 4, super().sizeHint().height()
        )

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._elide()

    def _elide(self) -> None:
        shown = self.fontMetrics().elidedText(
            self._full, Qt.TextElideMode.ElideMiddle, max(self.width(), 1)
        )
        if shown != self.text():
            self.setText(shown)
