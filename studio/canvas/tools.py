"""The chips at the right of the tabs: how the picture is painted."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtGui import QAction, QActionGroup, QIcon, QPixmap
from PySide6.QtWidgets import QMenu, QToolButton

from ..look import theme
from ..look.chip_row import ChipRow
from ..look.icons import icon
from ..look.widgets import named
from .colormaps import MAPS, swatch
from .histogram_view import HistogramView
from .looks import VIEWS
from .matrix_view import MatrixView

_ICON = 14


class WeightTools(ChipRow):
    """What is shown of the weights, whether the mask lies over it, and in which colours."""

    def __init__(self, view: MatrixView) -> None:
        self._view = view
        self._shown = _menu_chip(
            "view_chip", "What is shown", VIEWS, lambda key: view.set_look(view=key)
        )
        self._over = named(QToolButton(), "mask_chip", "Mask over the weights")
        self._over.setProperty("role", "chip")
        self._over.setText("mask over")
        self._over.setCheckable(True)
        self._over.setToolTip("Pruned weights are gone from the picture  M")
        self._over.toggled.connect(lambda on: view.set_look(over=on))
        names = {name: name for name in MAPS}
        self._colours = _menu_chip(
            "colour_chip", "Colours", names, lambda key: view.set_look(colours=key)
        )
        super().__init__("weight_tools", self._shown, self._over, self._colours)
        view.look_changed.connect(self._follow)
        theme.follow(self, self._follow)

    def _follow(self) -> None:
        look, ink = self._view.look, theme.current()
        self._shown.setText(VIEWS[look.view])
        self._shown.setIcon(icon("eye", ink, _ICON, ink.dim))
        self._shown.setToolTip(f"Shown of the weights: {VIEWS[look.view]}  V")
        self._over.setChecked(look.over)
        self._over.setIcon(icon("mask", ink, _ICON, ink.dim))
        signed = look.view == "weight"
        self._colours.setText("blue–amber" if signed else look.colours)
        self._colours.setIcon(
            QIcon(QPixmap.fromImage(swatch(look.colour_map(ink)).scaled(_ICON, _ICON)))
        )
        self._colours.setEnabled(not signed)
        tip = f"Colours: {look.colours}  C"
        self._colours.setToolTip("Signed weights: blue below zero, amber above" if signed else tip)
        for chip, word in ((self._shown, look.view), (self._colours, look.colours)):
            for action in chip.menu().actions():
                action.setChecked(action.data() == word)
        self.refit()


def histogram_tools(view: HistogramView) -> ChipRow:
    """Over w or |w|, with plain or logarithmic counts."""
    chips = []
    for name, text, tip, slot in (
        ("absolute_chip", "|w|", "Distribution of |w| instead of w", view.set_absolute),
        ("log_chip", "log", "Logarithmic counts: rare weights are seen", view.set_logarithmic),
    ):
        chip = named(QToolButton(), name, tip, tip)
        chip.setProperty("role", "chip")
        chip.setText(text)
        chip.setCheckable(True)
        chip.toggled.connect(slot)
        chips.append(chip)
    return ChipRow("histogram_tools", *chips)


def _menu_chip(
    name: str, accessible: str, entries: dict[str, str], chosen: Callable[[str], None]
) -> QToolButton:
    """A chip whose menu offers `entries`; `chosen` gets the key of the one that is picked."""
    chip = named(QToolButton(), name, accessible)
    chip.setProperty("role", "chip")
    chip.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
    menu = QMenu(chip)
    menu.setObjectName(f"{name}_menu")
    group = QActionGroup(menu)
    for key, text in entries.items():
        action = QAction(text, menu)
        action.setData(key)
        action.setCheckable(True)
        group.addAction(action)
        menu.addAction(action)
    menu.triggered.connect(lambda action: chosen(str(action.data())))
    chip.setMenu(menu)
    return chip
