"""Questions to the person: which file, where to, and whether to run a pickle's code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QLineEdit,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from . import theme
from .icons import pixmap
from .widgets import label, named

MODELS = "Models (*.safetensors *.pt *.pth *.bin *.ckpt);;All files (*)"
PLANS = "Plans (*.yaml *.yml *.json)"
_ICON = 32


def ask_file(parent: QWidget) -> str:
    """A model file to open, empty if none was chosen."""
    name, _ = QFileDialog.getOpenFileName(parent, "Open a model", "", MODELS)
    return name


def ask_folder(parent: QWidget, title: str) -> str:
    """A folder, empty if none was chosen."""
    return QFileDialog.getExistingDirectory(parent, title)


def ask_plan(parent: QWidget) -> str:
    """A plan file to read, empty if none was chosen."""
    name, _ = QFileDialog.getOpenFileName(parent, "Open a plan", "", PLANS)
    return name


def ask_save(parent: QWidget, title: str, proposal: Path, kinds: str) -> str:
    """A file to write, empty if none was chosen; the dialog asks before it is written over."""
    name, _ = QFileDialog.getSaveFileName(parent, title, str(proposal), kinds)
    return name


class AddressDialog(QDialog):
    """Asks for a model address, and the architecture of a bare state dict."""

    def __init__(self, parent: QWidget, chosen: Callable[[str, str | None], None]) -> None:
        super().__init__(parent)
        self.setObjectName("address_dialog")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Open by address")
        self.setMinimumWidth(460)
        self._chosen = chosen
        self.address = named(QLineEdit(), "address_field", "Model address")
        self.address.setPlaceholderText("torchvision:resnet18")
        self.arch = named(QLineEdit(), "arch_field", "Architecture")
        self.arch.setPlaceholderText("torchvision:resnet18   (only for files of bare weights)")
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Open | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        self._open = buttons.button(QDialogButtonBox.StandardButton.Open)
        named(self._open, "address_open", "Open").setEnabled(False)
        self.address.textChanged.connect(lambda text: self._open.setEnabled(bool(text.strip())))
        box = QVBoxLayout(self)
        box.setContentsMargins(20, 18, 20, 16)
        box.setSpacing(8)
        box.addWidget(label("Address", "heading"))
        box.addWidget(self.address)
        examples = label(
            "torchvision:NAME   hf:ORG/NAME   sample:digits-resnet   a path",
            "faint",
        )
        box.addWidget(examples)
        box.addSpacing(6)
        box.addWidget(label("Architecture", "heading"))
        box.addWidget(self.arch)
        box.addSpacing(10)
        box.addWidget(buttons)

    def accept(self) -> None:
        address, arch = self.address.text().strip(), self.arch.text().strip()
        super().accept()
        self._chosen(address, arch or None)


def ask_consent(parent: QWidget, message: str, agreed: Callable[[], None]) -> QMessageBox:
    """Ask before code inside a file is run; No is the default. Does not block."""
    return _ask(
        parent, "consent", "Run this file's code?",
        "This file can only be opened by running the code inside it.\n\n"
        f"{message}\n\nSuch code can do anything that you can: read, send and delete your files. "
        "Go on only if you trust whoever made it.",
        "Don't open", "I understand, run it", agreed,
    )  # fmt: skip


def ask_data_consent(parent: QWidget, message: str, agreed: Callable[[], None]) -> QMessageBox:
    """Ask before a run calls the loader that a plan names; No is the default. Does not block."""
    return _ask(
        parent, "consent", "Run this loader's code?",
        f"Data can only be had so by running code: {message}.\n\nSuch code can do anything that "
        "you can: read, send and delete your files. Go on only if you trust whoever made it.",
        "Don't run", "I understand, run it", agreed,
    )  # fmt: skip


def ask_quit(parent: QWidget, under_way: str, agreed: Callable[[], object]) -> QMessageBox:
    """Ask before a run is left half-way; to stay is the default. Does not block."""
    return _ask(
        parent, "quit", "Quit while a run goes on?",
        f"{under_way} is not finished. Quitting stops it, and what it has found so far is lost. "
        "The plan is kept.",
        "Keep running", "Stop and quit", agreed,
    )  # fmt: skip


def ask_overwrite(parent: QWidget, name: str, agreed: Callable[[], None]) -> QMessageBox:
    """Ask before a file is written over; not to is the default. Does not block."""
    return _ask(
        parent, "overwrite", "Replace the file?", f"{name} exists already.",
        "Keep it", "Replace", agreed,
    )  # fmt: skip


def _ask(
    parent: QWidget,
    name: str,
    question: str,
    details: str,
    stay: str,
    go: str,
    agreed: Callable[[], object],
) -> QMessageBox:
    box = QMessageBox(parent)
    box.setObjectName(f"{name}_dialog")
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setIconPixmap(pixmap("warning", theme.current(), _ICON, theme.current().amber))
    box.setWindowTitle(name.capitalize())
    box.setText(question)
    box.setInformativeText(details)
    no = named(box.addButton(stay, QMessageBox.ButtonRole.RejectRole), f"{name}_no")
    yes = named(box.addButton(go, QMessageBox.ButtonRole.DestructiveRole), f"{name}_yes")
    box.setDefaultButton(no)
    box.setEscapeButton(no)
    yes.clicked.connect(lambda: agreed())
    box.open()
    return box
