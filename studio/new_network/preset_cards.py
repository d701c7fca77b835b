"""Networks to begin with as picture cards: one of them chosen, or none."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFont, QPainter, QPaintEvent
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QWidget

from ...engine.errors import BadInput
from ...engine.new_network import PRESETS, NewNetwork, Preset
from ..look.picture_button import PictureButton
from ..look.theme import font, theme_of
from ..look.widgets import wrapped
from ..state.numbers import count
from .choice import Choice
from .drawing import draw

_PICTURE = 62


class PresetCard(PictureButton):
    """One preset: its layers drawn to scale, its name, and how many weights it would have."""

    def __init__(self, preset: Preset, parent: QWidget | None = None) -> None:
        super().__init__(preset.label, parent)
        self.preset = preset
        self._network: NewNetwork | None = None
        self.setObjectName(f"network_{preset.name}")
        self.setAccessibleName(preset.label)

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
        self._paint_frame(painter)
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
