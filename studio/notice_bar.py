"""Messages under the top bar: quiet, one at a time, with what one can do about them."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QWidget

from .look import theme
from .look.icons import icon, pixmap
from .look.widgets import label, named

_WARNING_MS = 12000
Offer = tuple[str, str, Callable[[], None]]


class NoticeBar(QFrame):
    """Rose for errors, amber for warnings, which go away by themselves; leaf for quiet offers."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("notice_bar")
        self._level = "info"
        self._sign = QLabel()
        self._text = label(name="notice_text")
        self._text.setWordWrap(True)
        self._text.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self._buttons: list[QPushButton] = []
        self._close = QPushButton()
        named(self._close, "notice_close", "Close this message", "Close this message")
        self._close.setProperty("role", "flat")
        self._close.setFixedSize(28, 28)
        self._close.clicked.connect(self.hide)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(14, 4, 8, 4)
        self._row.setSpacing(8)
        for widget in (self._sign, self._text, self._close):
            self._row.addWidget(widget)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.hide)
        theme.follow(self, self._restyle)
        self.hide()

    @property
    def text(self) -> str:
        """What it says."""
        return self._text.text()

    @property
    def level(self) -> str:
        """``info``, ``warning`` or ``error``."""
        return self._level

    def tell(self, text: str, level: str = "info", offers: tuple[Offer, ...] = ()) -> None:
        """Show `text`; `offers` are (object name, text, what to do) of buttons beside it."""
        for button in self._buttons:
            self._row.removeWidget(button)
            button.deleteLater()
        self._buttons = []
        self._level = level
        self._text.setText(text)
        for name, words, slot in offers:
            button = named(QPushButton(words), name, words)
            button.setProperty("role", "small")
            button.clicked.connect(slot)
            self._row.insertWidget(self._row.count() - 1, button)
            self._buttons.append(button)
        self._restyle()
        self.show()
        if level != "error" and not (level == "info" and offers):
            self._timer.start(_WARNING_MS)
        else:
            self._timer.stop()

    def _restyle(self) -> None:
        colours = theme.current()
        ink = {"error": colours.rose, "warning": colours.amber}.get(self._level, colours.leaf)
        ground = colours.mix(ink, colours.panel, 0.12)
        self.setStyleSheet(
            f"#notice_bar {{ background: {ground}; border: 0; border-top: 1px solid {colours.line};"
            f" border-left: 3px solid {ink}; }}"
        )
        sign = self._level if self._level in ("error", "warning") else "info"
        self._sign.setPixmap(pixmap(sign, colours, 16, ink))
        self._close.setIcon(icon("close", colours, 14, colours.dim))
