"""The chips at the right of the tabs: how the picture is painted."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QHBoxLayout, QMenu, QToolButton, QWidget

from ..look.widgets import named
from .colormaps import MAPS
from .histogram_view import HistogramView
from .looks import VIEWS
from .matrix_view import MatrixView


def weight_tools(view: MatrixView) -> QWidget:
    """What is shown of the weights, whether the mask lies over it, and in which colours."""
    box, row = _row("weight_tools")
    shown = _menu_chip("view_chip", "What is shown", VIEWS, lambda k: view.set_look(view=k))
    over = named(QToolButton(), "mask_chip", "Mask over the weights")
    over.setProperty("role", "chip")
    over.setText("mask over")
    over.setCheckable(True)
    over.setToolTip("Pruned weights are gone from the picture  M")
    over.toggled.connect(lambda on: view.set_look(over=on))
    names = {name: name for name in MAPS}
    colours = _menu_chip("colour_chip", "Colours", names, lambda k: view.set_look(colours=k))
    shown.setToolTip("What is shown of the weights  V")

    def follow() -> None:
        look = view.look
        shown.setText(VIEWS[look.view])
        over.setChecked(look.over)
        signed = look.view == "weight"
        colours.setText("blue–amber" if signed else look.colours)
        colours.setEnabled(not signed)
        tip = "Signed weights: blue below zero, amber above" if signed else "Colours  C"
        colours.setToolTip(tip)
        for chip, word in ((shown, look.view), (colours, look.colours)):
            for action in chip.menu().actions():
                action.setChecked(action.data() == word)

    view.look_changed.connect(follow)
    follow()
    for widget in (shown, over, colours):
        row.addWidget(widget)
    return box


def histogram_tools(view: HistogramView) -> QWidget:
    """Over w or |w|, with plain or logarithmic counts."""
    box, row = _row("histogram_tools")
    chips = (
        ("absolute_chip", "|w|", "Distribution of |w| instead of w", view.set_absolute),
        ("log_chip", "log", "Logarithmic counts: rare weights are seen", view.set_logarithmic),
    )
    for name, text, tip, slot in chips:
        chip = named(QToolButton(), name, tip, tip)
        chip.setProperty("role", "chip")
        chip.setText(text)
        chip.setCheckable(True)
        chip.toggled.connect(slot)
        row.addWidget(chip)
    return box


def _row(name: str) -> tuple[QWidget, QHBoxLayout]:
    box = QWidget()
    box.setObjectName(name)
    row = QHBoxLayout(box)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(8)
    row.addStretch()
    return box, row


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
