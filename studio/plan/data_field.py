"""Which data a model is trained on: an address, completed from the kinds that there are."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QMouseEvent, QStandardItem, QStandardItemModel
from PySide6.QtWidgets import (
    QCompleter,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ..look import theme
from ..look.dialogs import ask_folder
from ..look.icons import icon
from ..look.widgets import label, named, wrapped

ADDRESSES = (
    ("sample:digits", "small pictures of digits that come with Secateur"),
    ("folder:", "one folder of images for each class"),
    ("cifar10:", "CIFAR-10 as torchvision lays it out in a folder"),
    ("mnist:", "MNIST as torchvision lays it out in a folder"),
    ("fashion-mnist:", "Fashion-MNIST as torchvision lays it out in a folder"),
    ("imagenet:", "ImageNet's train and val folders"),
    ("glue:", "sentences in train and dev files, .tsv or .jsonl"),
    ("datasets:", "what Hugging Face's datasets saved to a folder"),
    ("higgs:", "the HIGGS table, .csv or .csv.gz"),
    ("csv:", "a table of numbers with a column for the label"),
    ("my_module:make", "a loader of your own, package.module:function"),
)
"""What an address begins with, and what it stands for; the guide's page on data says more."""
_FILES = ("csv:", "higgs:")
_TABLES = "Tables (*.csv *.csv.gz);;All files (*)"
_CAPTION = 46


class DataField(QWidget):
    """Edits the address of the data; `edited` carries it, None for the model's own.

    An address that is only begun is explained below the field and emits nothing.
    """

    edited = Signal(object)

    def __init__(self, parent: QWidget | None = None, caption_width: int = _CAPTION) -> None:
        super().__init__(parent)
        self._address: str | None = None
        self._own: str | None = None
        tip = "Address of the data to train on and to measure with; empty: the model's own."
        self.box = named(_Address(), "training_form_data", "Data", tip)
        self.box.editingFinished.connect(self._typed)
        self.browse = named(QToolButton(), "data_browse", "Browse for data")
        theme.follow(self, self._restyle)
        self.browse.clicked.connect(self._browse)
        self.note = label("", "dim", "data_note")
        self.note.setWordWrap(True)
        caption = label("Data", "dim")
        caption.setBuddy(self.box)
        caption.setMinimumWidth(caption_width)
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(caption)
        row.addWidget(self.box, 1)
        row.addWidget(self.browse)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(row)
        column.addWidget(self.note)

    def show_address(self, address: str | None, own: str | None) -> None:
        """Show the plan's address, and the model's own for where that is empty; emits nothing."""
        self._address, self._own = address, own
        self.box.setPlaceholderText(own or "such as sample:digits")
        self.box.setText(address or "")
        kind = _kind(self.box.text())
        self.browse.setToolTip("Choose the table's file" if kind in _FILES else "Choose a folder")
        words = dict(ADDRESSES).get(_kind(address or own or ""), "")
        self._say(f"the model's own: {words}" if words and not address else words)

    def _restyle(self) -> None:
        look = theme.theme_of(self)
        self.browse.setIcon(icon("folder", look, 16, look.dim))

    def _say(self, words: str) -> None:
        self.note.setText(f"{words[:1].upper()}{words[1:]}." if words else "")
        self.note.setVisible(bool(words))

    def _typed(self) -> None:
        text = self.box.text().strip()
        if text.endswith(":"):
            what = "file" if text in _FILES else "folder"
            self._say(f"{text} takes a {what}: choose it, or type its path")
        elif (text or None) != self._address:
            self.edited.emit(text or None)

    def _browse(self) -> None:
        kind = _kind(self.box.text())
        if kind in _FILES:
            chosen, _ = QFileDialog.getOpenFileName(self, "Choose a table", "", _TABLES)
        else:
            chosen = ask_folder(self, "Choose a folder of data")
        if chosen:
            path = str(Path(chosen))
            self.box.setText(f"{kind}{path}" if kind.endswith(":") else path)
            self._typed()


def _kind(address: str) -> str:
    """The known beginning of an address, empty for any other."""
    return next((begin for begin, _ in ADDRESSES if address.startswith(begin)), "")


class _Address(QLineEdit):
    """Completes addresses; a click into the empty field lists all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.setClearButtonEnabled(True)
        model = QStandardItemModel(self)
        for begin, words in ADDRESSES:
            item = QStandardItem(begin)
            item.setToolTip(wrapped(words))
            model.appendRow(item)
        made = QCompleter(model, self)
        made.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        made.setFilterMode(Qt.MatchFlag.MatchContains)
        made.setMaxVisibleItems(len(ADDRESSES))
        popup = made.popup()
        assert popup is not None
        named(popup, "data_addresses", "Kinds of data")
        self.setCompleter(made)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        super().mouseReleaseEvent(event)
        completer = self.completer()
        if not self.text() and completer is not None:
            completer.setCompletionPrefix("")
            completer.complete()
