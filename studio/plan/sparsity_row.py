"""How much of a layer goes: a slider to drag and a box for the exact number."""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QGridLayout, QSlider, QWidget

from ..look.widgets import label, named, wrapped
from .setting_form import NumberBox, quiet

_STEPS = 1000
_LIVE_MS = 33
"""A drag previews at most 30 times a second, and the latest place wins."""
_SETTLE_MS = 700
"""Key presses on the slider within this time are one step of the undo stack."""


class SparsityRow(QWidget):
    """`live` carries a sparsity while it is being changed; `settled`: the change is over."""

    live = Signal(float)
    settled = Signal()

    def __init__(self, parent: QWidget | None = None, name: str = "sparsity") -> None:
        super().__init__(parent)
        self._shown = 0.0
        self._waiting: float | None = None
        self._filling = False
        self._label = label("Sparsity")
        self._box = NumberBox(decimals=3, least=1)
        named(self._box, f"{name}_box", "Sparsity in percent")
        self._box.setRange(0.1, 99.9)
        self._box.setSingleStep(5.0)
        self._box.setSuffix(" %")
        self._box.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._box.setFixedWidth(104)
        self._slider = named(QSlider(Qt.Orientation.Horizontal), f"{name}_slider", "Sparsity")
        self._slider.setRange(1, _STEPS - 1)
        self._slider.setSingleStep(10)
        self._slider.setPageStep(50)
        quiet(self._slider)
        self._why = label(role="dim", name=f"{name}_why")
        self._why.setWordWrap(True)
        self._why.hide()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(6)
        grid.addWidget(self._label, 0, 0)
        grid.addWidget(self._box, 0, 1)
        grid.addWidget(self._slider, 1, 0, 1, 2)
        grid.addWidget(self._why, 2, 0, 1, 2)
        self._throttle = _timer(self, _LIVE_MS)
        self._throttle.timeout.connect(self._flush)
        self._rest = _timer(self, _SETTLE_MS)
        self._rest.timeout.connect(self._settle)
        self._slider.sliderPressed.connect(self._settle)
        self._slider.valueChanged.connect(self._slid)
        self._slider.sliderReleased.connect(self._settle)
        self._box.valueChanged.connect(self._typed)
        self._usable("", "")

    def show_sparsity(
        self, sparsity: float, mixed: bool = False, why_fixed: str = "", note: str = ""
    ) -> None:
        """Show a sparsity in [0, 1). `mixed`: the selected layers differ. `why_fixed` locks it.

        `note` says below the slider what else decides how much goes.
        """
        self._shown = sparsity
        self._label.setText("Sparsity (layers differ)" if mixed else "Sparsity")
        self._filling = True
        if self._slider.value() != round(sparsity * _STEPS) and not self._slider.isSliderDown():
            self._slider.setValue(round(sparsity * _STEPS))
        if abs(self._box.value() - sparsity * 100) > 5e-4:
            self._box.setValue(sparsity * 100)
        self._filling = False
        self._usable(why_fixed, note)

    def _usable(self, why_fixed: str, note: str) -> None:
        free = not why_fixed
        self._slider.setEnabled(free)
        self._box.setEnabled(free)
        hint = "Share of the layer's weights that go; arrow keys move by 1 %, Page keys by 5 %"
        for widget in (self._slider, self._box):
            widget.setToolTip(wrapped(why_fixed or hint))
        self._why.setText(why_fixed or note)
        self._why.setVisible(bool(why_fixed or note))

    def _slid(self, value: int) -> None:
        if self._filling:
            return
        self._waiting = value / _STEPS
        self._filling = True
        self._box.setValue(value * 100 / _STEPS)
        self._filling = False
        if not self._throttle.isActive():
            self._flush()
            self._throttle.start()
        if not self._slider.isSliderDown():
            self._rest.start()

    def _flush(self) -> None:
        if self._waiting is not None:
            sparsity, self._waiting = self._waiting, None
            self.live.emit(sparsity)
            if self._slider.isSliderDown():
                self._throttle.start()

    def _settle(self) -> None:
        self._rest.stop()
        self._flush()
        self.settled.emit()

    def _typed(self, percent: float) -> None:
        if self._filling or abs(percent / 100 - self._shown) < 5e-6:
            return
        self._settle()
        self.live.emit(round(percent / 100, 5))
        self.settled.emit()


def _timer(owner: QWidget, milliseconds: int) -> QTimer:
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    return timer
