"""Networks to begin with as picture cards: one of them chosen, or none."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFocusEvent, QFont, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QHBoxLayout, QSizePolicy, QWidget

from ...engine.errors import BadInput
from ...engine.new_network import PRESETS, NewNetwork, Preset
from ..look.theme import font, theme_of
from ..look.widgets import BY_KEYBOARD, wrapped
from ..state.numbers import count
from .choice import Choice
from .drawing import draw

_PICTURE = 62


class PresetCard(QAbstractButton):
    """One preset: its layers drawn to scale, its name, and how many weights it would have."""

    def __init__(self, preset: Preset, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.preset = preset
        self._network: NewNetwork | None = None
        self._ring = False
        self.setObjectName(f"network_{preset.name}")
        self.setText(preset.label)
        self.setAccessibleName(preset.label)
        self.setCheckable(True)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_for(self, choice: Choice) -> None:
        """Draw the preset as it is for the data of `choice`; off where it can't take them."""
        reason = ""
        try:
            self._network = choice.like(self.preset).network()
        except BadInput:
            reason = "It takes images, and an example of this data is none."
        self.setEnabled(not reason)
        self.setToolTip(wrapped(reason or f"{self.preset.summary}."))
        self.setAccessibleDescription(reason or self.preset.summary)
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(150, _PICTURE + 62)

    def minimumSizeHint(self) -> QSize:
        return QSize(120, _PICTURE + 62)

    def paintEvent(self, event: QPaintEvent) -> None:
        look = theme_of(self)
        painter = QPainter(self)
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
        painter.setOpacity(1.0 if self.isEnabled() else 0.4)
        if self._network is not None:
            picture = QRectF(18, 14, self.width() - 36, _PICTURE)
            draw(painter, picture, self._network, look)
        weight = QFont.Weight.DemiBold if self.isChecked() else QFont.Weight.Normal
        painter.setFont(font(12, weight))
        painter.setPen(look.colour("text"))
        middle = int(Qt.AlignmentFlag.AlignHCenter)
        painter.drawText(QRectF(0, _PICTURE + 22, self.width(), 18), middle, self.text())
        if self._network is not None:
            painter.setFont(font(11))
            painter.setPen(look.colour("dim"))
            words = f"{count(self._network.weights)} weights"
            painter.drawText(QRectF(0, _PICTURE + 39, self.width(), 16), middle, words)
        painter.end()

    def focusInEvent(self, event: QFocusEvent) -> None:
        self._ring = event.reason() in BY_KEYBOARD
        super().focusInEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        self._ring = False
        super().focusOutEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        self.update()


class PresetCards(QWidget):
    """All presets side by side; `chosen` carries the one picked. Arrow keys walk."""

    chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._group = QButtonGroup(self)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(10)
        self._cards = tuple(PresetCard(preset) for preset in PRESETS)
        for card in self._cards:
            self._group.addButton(card)
            row.addWidget(card, 1)
        self._group.buttonClicked.connect(lambda card: self.chosen.emit(card.preset))

    def show_choice(self, choice: Choice) -> None:
        """Draw all for the choice's data, and mark the one whose layers it has, if any."""
        self._group.setExclusive(False)
        for card in self._cards:
            card.show_for(choice)
            like = choice.like(card.preset)
            card.setChecked((like.kind, like.hidden) == (choice.kind, choice.hidden))
        self._group.setExclusive(True)
