"""A button that is a picture in a frame; the chosen one and the one with the keyboard stand out."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QRectF, Qt
from PySide6.QtGui import QFocusEvent, QPainter, QPen
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QWidget

from .theme import theme_of
from .widgets import BY_KEYBOARD


class PictureButton(QAbstractButton):
    """Checkable; a subclass paints its picture into the frame."""

    def __init__(self, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._ring = False
        self.setText(text)
        self.setCheckable(True)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def _paint_frame(self, painter: QPainter) -> None:
        look = theme_of(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        edge, width = look.colour("line"), 1.0
        if self.isChecked() or self._ring:
            edge, width = look.colour("leaf"), 2.0 if self.isChecked() else 1.0
        elif self.underMouse() and self.isEnabled():
            edge = look.colour("faint")
        painter.setPen(QPen(edge, width))
        painter.setBrush(look.colour("raise_"))
        frame = QRectF(self.rect()).adjusted(1, 1, -1, -1)
        painter.drawRoundedRect(frame, 9, 9)
        if self.isChecked() and self._ring:
            painter.setPen(QPen(look.colour("text"), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(frame.adjusted(3, 3, -3, -3), 6, 6)

    def focusInEvent(self, event: QFocusEvent) -> None:
        self._ring = event.reason() in BY_KEYBOARD
        super().focusInEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        self._ring = False
        super().focusOutEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        self.update()
