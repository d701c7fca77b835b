"""The guide, the list of keys, and what this program is."""

from __future__ import annotations

import platform
from html import escape
from pathlib import Path

import PySide6
from PySide6.QtCore import Qt, QUrl
from PySide6.QtWidgets import QDialog, QMessageBox, QTextBrowser, QVBoxLayout, QWidget

from .. import __version__
from . import theme
from .actions import Actions
from .widgets import named


class GuideDialog(QDialog):
    """Shows ``resources/guide/index.md`` and the pages that it links to."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("guide_dialog")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("User guide")
        self.resize(760, 680)
        self._folder = theme.RESOURCES / "guide"
        self.page = named(QTextBrowser(), "guide_page", "User guide")
        self.page.setProperty("role", "guide")
        self.page.setOpenLinks(False)
        self.page.anchorClicked.connect(self._follow_link)
        box = QVBoxLayout(self)
        box.setContentsMargins(16, 8, 8, 8)
        box.addWidget(self.page)
        self._show_page(self._folder / "index.md")

    def _show_page(self, path: Path) -> None:
        self.page.setMarkdown(path.read_text(encoding="utf-8"))

    def _follow_link(self, url: QUrl) -> None:
        path = (self._folder / url.path()).resolve()
        if path.parent == self._folder.resolve() and path.suffix == ".md" and path.exists():
            self._show_page(path)
        elif url.hasFragment() and not url.path():
            self.page.scrollToAnchor(url.fragment())


class ShortcutsDialog(QDialog):
    """Every command that has a key."""

    def __init__(self, actions: Actions, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("shortcuts_dialog")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Shortcuts")
        self.resize(420, 560)
        page = named(QTextBrowser(), "shortcuts_page", "Shortcuts")
        page.setProperty("role", "guide")
        dim = theme.current().dim
        rows = []
        for action in actions.all():
            keys = action.shortcut().toString()
            if keys:
                text = escape(action.text().replace("&", "").rstrip("…"))
                rows.append(
                    f"<tr><td style='padding:4px 40px 4px 0'>{text}</td>"
                    f"<td style='padding:4px 0;color:{dim}'>{escape(keys)}</td></tr>"
                )
        page.setHtml(f"<h3>Shortcuts</h3><table>{''.join(rows)}</table>")
        box = QVBoxLayout(self)
        box.setContentsMargins(16, 8, 8, 8)
        box.addWidget(page)


def about(parent: QWidget, engine: str) -> None:
    """Show version, licence and what it runs on."""
    box = QMessageBox(parent)
    box.setObjectName("about_dialog")
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setWindowTitle("About Secateur")
    box.setText(f"Secateur {__version__}")
    box.setInformativeText(
        "A desktop studio for pruning neural networks.\nApache License 2.0.\n\n"
        f"Python {platform.python_version()}, Qt for Python {PySide6.__version__} (LGPL)\n"
        f"Engine: {engine}"
    )
    box.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    box.open()
