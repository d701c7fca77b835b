"""The guide, the list of keys, and what this program is."""

from __future__ import annotations

import platform
from html import escape
from pathlib import Path

import PySide6
from PySide6.QtCore import QSize, Qt, QUrl
from PySide6.QtGui import QColor, QKeySequence, QTextCursor, QTextDocument, QTextFormat
from PySide6.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QMessageBox,
    QPushButton,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from .. import __version__
from .actions import Actions
from .look import theme
from .look.icons import app_icon
from .look.widgets import named


class GuideDialog(QDialog):
    """Shows a page of ``resources/guide``, with its pictures, and the pages that it links to."""

    def __init__(self, parent: QWidget, page: str = "index.md") -> None:
        super().__init__(parent)
        self.setObjectName("guide_dialog")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("User guide")
        self.resize(760, 680)
        self._folder = (theme.RESOURCES / "guide").resolve()
        self.page = named(QTextBrowser(), "guide_page", "User guide")
        self.page.setProperty("role", "guide")
        self.page.setOpenLinks(False)
        self.page.anchorClicked.connect(self._follow_link)
        self._trail: list[Path] = []
        self._back = named(QPushButton("‹ Back"), "guide_back", "Back", "Back  Alt+Left")
        self._back.setShortcut(QKeySequence("Alt+Left"))
        self._back.clicked.connect(self._go_back)
        self._contents = named(
            QPushButton("Contents"), "guide_contents", "Contents", "The first page  Alt+Home"
        )
        self._contents.setShortcut(QKeySequence("Alt+Home"))
        self._contents.clicked.connect(lambda: self._show_page(self._folder / "index.md"))
        row = QHBoxLayout()
        row.setContentsMargins(8, 4, 0, 4)
        for button in (self._back, self._contents):
            button.setProperty("role", "small")
            button.setAutoDefault(False)
            row.addWidget(button)
        row.addStretch()
        box = QVBoxLayout(self)
        box.setContentsMargins(16, 8, 8, 8)
        box.addLayout(row)
        box.addWidget(self.page)
        self._show_page(self._folder / page)
        self.page.setFocus()

    def _show_page(self, path: Path) -> None:
        # Pictures are named from the page's own folder.
        self.page.document().setBaseUrl(QUrl.fromLocalFile(f"{path.parent}/"))
        self.page.setMarkdown(path.read_text(encoding="utf-8"))
        _set_air(self.page.document())
        if self._trail[-1:] != [path]:
            self._trail.append(path)
        self._back.setEnabled(len(self._trail) > 1)
        self._contents.setEnabled(path != self._folder / "index.md")

    def _go_back(self) -> None:
        self._trail.pop()
        self._show_page(self._trail[-1])

    def _follow_link(self, url: QUrl) -> None:
        path = (self._trail[-1].parent / url.path()).resolve()
        if path.is_relative_to(self._folder) and path.suffix == ".md" and path.exists():
            self._show_page(path)
        elif url.hasFragment() and not url.path():
            self.page.scrollToAnchor(url.fragment())


def _set_air(document: QTextDocument) -> None:
    """Space around headings and paragraphs, which Markdown has no style for."""
    block, code = document.begin(), QTextFormat.Property.BlockCodeFence
    while block.isValid():
        shape = block.blockFormat()
        if shape.hasProperty(code):
            shape.setBackground(QColor(theme.current().raise_))
            shape.setLeftMargin(12)
            last = not block.next().blockFormat().hasProperty(code)
            shape.setBottomMargin(10 if last else 0)
        elif shape.headingLevel():
            shape.setTopMargin(0 if block.position() == 0 else 18)
            shape.setBottomMargin(6)
        elif block.textList() is not None:
            shape.setBottomMargin(4)
        else:
            shape.setBottomMargin(8)
        QTextCursor(block).setBlockFormat(shape)
        block = block.next()


class ShortcutsDialog(QDialog):
    """Every command that has a key."""

    def __init__(self, actions: Actions, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("shortcuts_dialog")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Shortcuts")
        self.resize(420, 720)
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
    box.setIconPixmap(app_icon().pixmap(QSize(40, 40)))
    box.setText(f"Secateur {__version__}")
    box.setInformativeText(
        "A desktop studio for pruning neural networks.\nApache License 2.0.\n\n"
        f"Python {platform.python_version()}, Qt for Python {PySide6.__version__} (LGPL)\n"
        f"Engine: {engine}"
    )
    box.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    box.open()
