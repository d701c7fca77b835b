"""Export: which format, where to, and what came out after it was read back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QDialog,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from ..look import theme
from ..look.dialogs import ask_overwrite
from ..look.widgets import label, named
from ..state.numbers import size
from ..state.session import Session


@dataclass(frozen=True)
class Format:
    """One way to write the model, as `Session.export` names it."""

    name: str
    title: str
    suffix: str
    note: str


FORMATS = (
    Format("onnx", "ONNX", ".onnx",
           "Runs in ONNX Runtime and others. Smaller where whole filters go; zeros stay zeros."),
    Format("safetensors", "Safetensors with zeros", ".safetensors",
           "The model's own names and shapes: loads wherever the original did. Not smaller."),
    Format("compressed", "Compressed safetensors", ".compressed.safetensors",
           "Only the kept weights, each tensor in its smallest exact format. "
           "secateur.load() gives the model back."),
    Format("nested", "Nested levels", ".nested.safetensors",
           "Shared weights once and all levels of the run, to switch between while the model runs: "
           "secateur.load_nested()."),
)  # fmt: skip


class ExportDialog(QDialog):
    """Stays open until the file was read back and compared, then says what it found."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._suffix = ""
        self._agreed: Path | None = None
        self.setObjectName("export_dialog")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Export")
        self.setMinimumWidth(560)
        box = QVBoxLayout(self)
        box.setContentsMargins(22, 18, 22, 18)
        box.setSpacing(8)
        name = session.info.name if session.info else "model"
        box.addWidget(label(f"Export {name}", "title"))
        box.addSpacing(4)
        self._group = QButtonGroup(self)
        report = session.report or {}
        levels = [row["sparsity"] for row in report.get("levels", ())]
        for number, choice in enumerate(FORMATS):
            if choice.name != "nested" or levels:
                box.addWidget(self._choice(number, choice))
        self.level = _Levels(levels)
        box.addWidget(self.level)
        box.addSpacing(6)
        box.addWidget(label("File", "heading"))
        row = QHBoxLayout()
        self.path = named(QLineEdit(), "export_path", "File to write")
        browse = named(QPushButton("Choose…"), "export_browse", "Choose the file")
        browse.clicked.connect(self._browse)
        row.addWidget(self.path, 1)
        row.addWidget(browse)
        box.addLayout(row)
        self._bar = QProgressBar()
        self._bar.setRange(0, 0)
        self._bar.hide()
        box.addWidget(self._bar)
        self._result = _Result()
        box.addWidget(self._result)
        box.addSpacing(6)
        box.addStretch(1)
        buttons = QHBoxLayout()
        buttons.addStretch()
        self._close = named(QPushButton("Close"), "export_close", "Close", "Esc")
        self._close.clicked.connect(self.reject)
        self._go = named(QPushButton("Export"), "export_go", "Export", "Enter")
        self._go.setProperty("role", "go")
        self._go.setDefault(True)
        self._go.clicked.connect(self._export)
        buttons.addWidget(self._close)
        buttons.addWidget(self._go)
        box.addLayout(buttons)
        self.path.setText(str(Path.home() / name))
        self._group.idClicked.connect(self._format_chosen)
        self._group.button(0).setChecked(True)
        self._format_chosen(0)
        self.path.textChanged.connect(lambda _: self._follow())
        session.exporting.done.connect(self._exported)
        session.busy_changed.connect(self._follow)
        self._follow()

    def _choice(self, number: int, choice: Format) -> QWidget:
        card = _Card()
        inner = QVBoxLayout(card)
        inner.setContentsMargins(12, 8, 12, 9)
        inner.setSpacing(2)
        button = named(QRadioButton(choice.title), f"export_{choice.name}", choice.title)
        self._group.addButton(button, number)
        card.clicked.connect(button.click)
        inner.addWidget(button)
        note = label(choice.note, "dim")
        note.setWordWrap(True)
        note.setIndent(22)
        inner.addWidget(note)
        return card

    def _format_chosen(self, number: int) -> None:
        text, suffix = self.path.text(), FORMATS[number].suffix
        stem = text.removesuffix(self._suffix) if self._suffix else text
        self._suffix = suffix
        self.path.setText(stem + suffix)
        self.level.setEnabled(FORMATS[number].name != "nested")
        self._result.hide()

    def _browse(self) -> None:
        chosen = FORMATS[self._group.checkedId()]
        name, _ = QFileDialog.getSaveFileName(
            self, "Export to", self.path.text(), f"{chosen.title} (*{chosen.suffix})"
        )
        if name:
            self.path.setText(name)
            self._agreed = Path(name)  # the file dialog has asked already

    def _export(self) -> None:
        self._result.hide()
        path = Path(self.path.text().strip()).expanduser()
        chosen = FORMATS[self._group.checkedId()]
        ending = "." + chosen.suffix.rpartition(".")[2]
        if path.name and not path.suffix:
            path = path.with_name(path.name + chosen.suffix)
            self.path.setText(str(path))
        if path.suffix != ending:
            words = f"{path.name}: a file of {chosen.title} ends in {ending}"
            self._exported({"error": words, "path": str(path)})
        elif path.is_file() and path != self._agreed:
            ask_overwrite(self, path.name, lambda: self._write(path))
        else:
            self._write(path)

    def _write(self, path: Path) -> None:
        self._agreed = None
        name = FORMATS[self._group.checkedId()].name
        self._session.export(name, path, None if name == "nested" else self.level.chosen)

    def _follow(self) -> None:
        busy = bool(self._session.busy)
        self._bar.setVisible(busy)
        self._go.setEnabled(not busy and bool(self.path.text().strip()))
        self._go.setText("Exporting…" if busy else "Export")

    def _exported(self, result: dict[str, Any]) -> None:
        self._result.tell(result)
        self.adjustSize()


class _Levels(QWidget):
    """Which of a run's nested levels to write; hidden where it has none."""

    def __init__(self, levels: list[float]) -> None:
        super().__init__()
        self._box = named(QComboBox(), "export_level", "Level", "Sparsity of the level to write")
        for level in levels:
            self._box.addItem(f"{level * 100:.4g} %", level)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 0, 12, 0)
        row.addWidget(label("Level", "dim"))
        row.addWidget(self._box)
        row.addStretch(1)
        self.setVisible(bool(levels))

    @property
    def chosen(self) -> float | None:
        """The sparsity of the level, None where there are none."""
        level: float | None = self._box.currentData()
        return level


class _Card(QFrame):
    """A choice that can be clicked anywhere."""

    clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "card")
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self.rect().contains(event.position().toPoint()):
            self.clicked.emit()


class _Result(QFrame):
    """What the file holds, after it was read back."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("export_result")
        self.setProperty("role", "card")
        box = QVBoxLayout(self)
        box.setContentsMargins(12, 9, 12, 10)
        box.setSpacing(3)
        self._head = label(name="export_verdict")
        self._text = label(role="dim", name="export_facts")
        for line in (self._head, self._text):
            line.setWordWrap(True)
            line.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            box.addWidget(line)
        self.hide()

    def tell(self, result: dict[str, Any]) -> None:
        """Show an export's result or error."""
        if "error" in result:
            head, role, facts = "Not exported", "error", [str(result["error"])]
        else:
            path = Path(result["path"])
            same = result["equal"]
            head = f"Written and read back: {'equal' if same else 'not equal'}"
            role = "good" if same else "error"
            facts = [
                f"{path.name} · {size(result['bytes'])}"
                f", dense weights {size(result['dense_bytes'])} · {len(result['tensors'])} tensors",
            ]
            if result.get("max_difference") is not None:
                facts.append(f"largest difference {result['max_difference']:.2g}")
            if "shared" in result:
                facts.append(_shared(result["shared"]))
            facts += result.get("notes", [])
        self._head.setText(head)
        self._head.setProperty("role", role)
        theme.refresh(self._head)
        self._text.setText("\n".join(facts))
        self.show()


def _shared(shared: dict[str, Any]) -> str:
    """What one file with all levels takes and saves."""
    index = size(shared["positions"] + shared["index"])
    words = (
        f"{size(shared['values'])} of shared weights, {index} of indices; in one file for each "
        f"level {size(sum(shared['separate']))}"
    )
    even = shared["break_even"]
    return words if even is None else f"{words}; indices pay off above {even * 100:.1f} % zeros"
