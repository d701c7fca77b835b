"""The line above the latency pictures: which picture, of which setting, and measuring more."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import (
    QBoxLayout,
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QMenu,
    QPushButton,
    QToolButton,
    QWidget,
)

from ..look.widgets import named, wrapped
from ..state.cells import Setting, setting_words

MODES = {
    "Layers": "Dense against what ran, layer by layer",
    "Steps": "Where the time of each path goes",
    "Sparsity": "Latency over sparsity, and where each pattern begins to pay",
    "Batch": "Latency over batch size",
    "Trade-off": "Accuracy against latency, each run a point",
}


class LatencyBar(QWidget):
    """Five segments; a menu where more than one setting was measured; layer or whole model."""

    mode_changed = Signal()
    whole_changed = Signal()
    setting_picked = Signal(tuple)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("latency_bar")
        self.setProperty("role", "stage")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._settings: tuple[Setting, ...] = ()
        segments = QFrame()
        segments.setProperty("role", "segments")
        inner = QHBoxLayout(segments)
        inner.setContentsMargins(2, 2, 2, 2)
        inner.setSpacing(2)
        self._group = QButtonGroup(self)
        for number, (name, tip) in enumerate(MODES.items()):
            button = named(
                QToolButton(), f"latency_mode_{number + 1}", name, f"{tip}  {number + 1}"
            )
            button.setText(name)
            button.setCheckable(True)
            button.setProperty("role", "segment")
            self._group.addButton(button, number)
            inner.addWidget(button)
        self._group.button(0).setChecked(True)
        self._group.idClicked.connect(lambda _: self.mode_changed.emit())
        self._whole = named(QToolButton(), "whole_chip", "Whole model",
                            "The whole model instead of the selected layer")  # fmt: skip
        self._whole.setText("whole model")
        self._whole.setCheckable(True)
        self._whole.setProperty("role", "chip")
        self._whole.toggled.connect(lambda _: self.whole_changed.emit())
        self._setting = named(QToolButton(), "setting_chip", "Batch, dtype and device")
        self._setting.setProperty("role", "chip")
        self._setting.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._menu = QMenu(self._setting)
        self._menu.setObjectName("setting_chip_menu")
        self._setting.setMenu(self._menu)
        self.measure = named(QPushButton("Measure"), "latency_measure_more", "Measure")
        self.measure.setProperty("role", "link")
        more = self._more = QHBoxLayout()
        more.setSpacing(8)
        for widget in (self.measure, self._whole, self._setting):
            more.addWidget(widget)
        self._segments = segments
        self._box = QBoxLayout(QBoxLayout.Direction.LeftToRight, self)
        self._box.setContentsMargins(12, 6, 12, 6)
        self._box.setSpacing(6)
        self._box.addWidget(segments, 0, Qt.AlignmentFlag.AlignLeft)
        self._box.addLayout(more)
        self._box.setAlignment(more, Qt.AlignmentFlag.AlignRight)
        self._add_shortcuts()

    def minimumSizeHint(self) -> QSize:
        return QSize(self._segments.minimumSizeHint().width() + 24, super().sizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fold()

    def _fold(self) -> None:
        """Two lines where one has not enough room."""
        way = QBoxLayout.Direction
        needed = self._segments.sizeHint().width() + self._more.sizeHint().width() + 36
        self._box.setDirection(way.TopToBottom if self.width() < needed else way.LeftToRight)

    @property
    def mode(self) -> str:
        """The chosen picture, one of `MODES`."""
        return list(MODES)[self._group.checkedId()]

    @property
    def whole(self) -> bool:
        """Whether the whole model is wanted instead of the selected layer."""
        return self._whole.isChecked()

    def set_mode(self, name: str) -> None:
        """Choose a picture."""
        if name != self.mode:
            self._group.button(list(MODES).index(name)).setChecked(True)
            self.mode_changed.emit()

    def show_state(
        self, settings: Sequence[Setting], chosen: Setting | None, can_be_whole: bool
    ) -> None:
        """Show which settings were measured and which of them is seen."""
        self._whole.setVisible(can_be_whole)
        self._setting.setVisible(chosen is not None)
        if chosen is None:
            return
        self._setting.setText(_differing(chosen, settings))
        self._setting.setToolTip(wrapped(f"Shown: {setting_words(chosen)}"))
        if tuple(settings) != self._settings:
            self._settings = tuple(settings)
            self._menu.clear()
            for one in sorted(settings):
                action = self._menu.addAction(setting_words(one))
                action.setData(one)
                action.setCheckable(True)
                action.triggered.connect(lambda _=False, one=one: self.setting_picked.emit(one))
        for action in self._menu.actions():
            action.setChecked(tuple(action.data()) == chosen)

    def show_measure(self, words: str, reason: str) -> None:
        """Offer to measure what the picture shows (no `words`: nothing), or say why not."""
        self.measure.setVisible(bool(words))
        self.measure.setAccessibleName(words)
        self.measure.setEnabled(not reason)
        self.measure.setToolTip(wrapped(reason or f"{words} on this machine"))
        self._fold()

    def _add_shortcuts(self) -> None:
        # They reach as far as the view that this line belongs to.
        inside = Qt.ShortcutContext.WidgetWithChildrenShortcut
        for number, name in enumerate(MODES):
            keys = QShortcut(QKeySequence(str(number + 1)), self, context=inside)
            keys.activated.connect(lambda name=name: self.set_mode(name))


def _differing(chosen: Setting, settings: Sequence[Setting]) -> str:
    """The chosen setting in short: its batch, and what else others were measured with."""
    parts = [f"batch {chosen[0]}"]
    parts += [chosen[1]] if len({one[1] for one in settings}) > 1 else []
    parts += [chosen[2].upper()] if len({one[2] for one in settings}) > 1 else []
    return " · ".join(parts)
