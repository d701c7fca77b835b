"""The menu bar: the same commands as everywhere, in the places where people look for them."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMenu, QMenuBar

from .actions import Actions
from .recent import Recent
from .start_page import SAMPLES

_MENUS: dict[str, tuple[str, ...]] = {
    "&File": (
        "new_network", "open", "open_folder", "open_address", "+recent", "+samples", "", "+presets",
        "open_plan", "save_plan", "save_project", "", "export", "", "quit",
    ),
    "&Edit": ("+undo", "", "set_dense", "select_all", "", "search", "filter"),
    "&View": ("+docks", "", "+theme", "fit", "reset_layout"),
    "&Run": ("prune", "pause", "cancel", "resume", "", "measure", "measure_what", "", "restart"),
    "&Help": ("guide", "shortcuts", "", "about"),
}  # fmt: skip


def build_menus(
    actions: Actions,
    recent: Recent,
    undo: list[QAction],
    docks: list[QAction],
    presets: QMenu,
    open_address: Callable[[str], None],
) -> QMenuBar:
    """The whole bar. `undo` are the undo and redo actions, `docks` show and hide the panels."""
    bar = QMenuBar()
    bar.setObjectName("menu_bar")
    for title, names in _MENUS.items():
        menu = bar.addMenu(title)
        menu.setObjectName("menu_" + title.strip("&").lower())
        menu.setToolTipsVisible(True)
        for name in names:
            if not name:
                menu.addSeparator()
            elif name == "+undo":
                menu.addActions(undo)
            elif name == "+docks":
                menu.addActions(docks)
            elif name == "+theme":
                theme = menu.addMenu("&Theme")
                theme.addActions([actions[f"theme_{t}"] for t in ("system", "dark", "light")])
            elif name == "+recent":
                _fill_recent(menu.addMenu("Open &recent"), recent, open_address)
            elif name == "+presets":
                presets.setParent(menu, presets.windowFlags())
                menu.addMenu(presets)
            elif name == "+samples":
                samples = menu.addMenu("Sa&mples")
                for sample in SAMPLES:
                    _add(samples, sample.title, sample.address, open_address)
            else:
                menu.addAction(actions[name])
    return bar


def _add(menu: QMenu, text: str, address: str, slot: Callable[[str], None]) -> None:
    action = menu.addAction(text.replace("&", "&&"))
    action.setToolTip(address)
    action.triggered.connect(lambda: slot(address))


def _fill_recent(menu: QMenu, recent: Recent, slot: Callable[[str], None]) -> None:
    def fill() -> None:
        menu.clear()
        for address in recent.items():
            _add(menu, address, address, slot)
        menu.addSeparator()
        forget = menu.addAction("&Clear this list")
        forget.setEnabled(bool(recent.items()))
        forget.triggered.connect(recent.clear)

    menu.aboutToShow.connect(fill)
    fill()
