"""What the centre shows before a model is open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from .actions import Actions
from .look import theme
from .look.icons import app_icon, icon
from .look.widgets import ActionButton, ElidedLabel, label, named, tip_of
from .recent import Recent
from .state.session import Session

_SHOWN = 5


@dataclass(frozen=True)
class Sample:
    """A bundled model: its address and what to know of it."""

    address: str
    title: str
    facts: str
    note: str


SAMPLES = (
    Sample("sample:digits-resnet", "digits-resnet", "ResNet of 16, 32 and 64 channels",
           "77,754 parameters\n98.89 % accurate"),
    Sample("sample:digits-vit", "digits-vit", "Vision transformer, 4 blocks of width 48",
           "77,434 parameters\n97.77 % accurate"),
)  # fmt: skip


class StartCard(QFrame):
    """A way to begin as a card that is one button."""

    chosen = Signal()

    def __init__(self, name: str, accessible: str, tip: str, title: str, *lines: str) -> None:
        super().__init__()
        named(self, name, accessible, tip)
        self.setProperty("role", "card")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(QSize(184, 96))
        box = QVBoxLayout(self)
        box.setContentsMargins(16, 14, 16, 14)
        box.setSpacing(4)
        box.addWidget(label(title, "strong"))
        for text, role in zip(lines, ("dim", "faint"), strict=True):
            line = label(text, role)
            line.setWordWrap(True)
            box.addWidget(line)
        box.addStretch()
        theme.follow(self, self._restyle)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self.rect().contains(event.position().toPoint()):
            self.chosen.emit()

    def keyPressEvent(self, event: object) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):  # type: ignore[attr-defined]
            self.chosen.emit()

    def _restyle(self) -> None:
        colours = theme.current()
        self.setStyleSheet(
            f"#{self.objectName()}:hover, #{self.objectName()}:focus"
            f" {{ border-color: {colours.leaf}; }}"
        )


class StartPage(QWidget):
    """Samples, files, what was open last, and room to drop a model."""

    def __init__(self, session: Session, actions: Actions, recent: Recent) -> None:
        super().__init__()
        self._session, self._recent = session, recent
        self._new = actions["new_network"]
        self.setObjectName("start_page")
        self.setProperty("role", "stage")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        column = QWidget()
        column.setMaximumWidth(640)
        box = QVBoxLayout(column)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(10)
        head = QHBoxLayout()
        head.setSpacing(14)
        logo = QLabel()
        logo.setPixmap(app_icon().pixmap(QSize(44, 44)))
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(label("Secateur", "title"))
        words.addWidget(label("Prune neural networks, and see what it costs.", "dim"))
        head.addWidget(logo)
        head.addLayout(words, 1)
        box.addLayout(head)
        box.addSpacing(14)
        box.addWidget(label("Start with a sample, or with a network of your own", "heading"))
        cards = QHBoxLayout()
        cards.setSpacing(12)
        for sample in SAMPLES:
            slug = sample.address.partition(":")[2].replace("-", "_")
            card = StartCard(
                f"sample_{slug}", f"Open {sample.title}", f"Open {sample.address}",
                sample.title, sample.facts, sample.note,
            )  # fmt: skip
            card.chosen.connect(lambda address=sample.address: session.open(address))
            cards.addWidget(card, 1)
        tip = tip_of(self._new, "Make a network of your own")
        card = StartCard(
            "start_new_network", "New sparse network", tip,
            "New network…", "MLPs and small convnets of any widths",
            "Trained sparse from the first step on",
        )  # fmt: skip
        card.chosen.connect(self._make_network)
        cards.addWidget(card, 1)
        box.addLayout(cards)
        box.addSpacing(14)
        box.addWidget(label("Open a model", "heading"))
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(ActionButton(actions["open"], "start_open", "Open file…"))
        buttons.addWidget(ActionButton(actions["open_folder"], "start_folder", "Open folder…"))
        buttons.addWidget(ActionButton(actions["open_address"], "start_address", "By address…"))
        buttons.addStretch()
        box.addLayout(buttons)
        box.addWidget(
            label("Or drop a model here: .safetensors, .pt, .pth, a Hugging Face folder, a project",
                  "faint")
        )  # fmt: skip
        box.addSpacing(14)
        self._recent_title = label("Recent", "heading")
        box.addWidget(self._recent_title)
        self._list = QVBoxLayout()
        self._list.setSpacing(0)
        box.addLayout(self._list)
        self._state = label(role="dim", name="start_state")
        box.addWidget(self._state)
        across = QHBoxLayout()
        across.addStretch(1)
        across.addWidget(column, 6)
        across.addStretch(1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(24, 24, 24, 24)
        whole.addStretch(2)
        whole.addLayout(across)
        whole.addStretch(3)
        recent.changed.connect(self.refresh)
        for signal in (session.busy_changed, session.engine_changed):
            signal.connect(self._show_state)
        theme.follow(self, self.refresh)
        self._show_state()

    def _make_network(self) -> None:
        if self._new.isEnabled():
            self._new.trigger()
        else:
            self._session.notice.emit(f"{self._new.statusTip()}.", "warning")

    def refresh(self) -> None:
        """Show what was open last."""
        while (item := self._list.takeAt(0)) is not None:
            row = item.widget()
            if row is not None:
                row.hide()
                row.deleteLater()
        items = self._recent.items()[:_SHOWN]
        self._recent_title.setVisible(bool(items))
        for number, address in enumerate(items):
            self._list.addWidget(self._row(number, address))

    def _row(self, number: int, address: str) -> QWidget:
        path = Path(address)
        local = path.is_absolute()
        row = named(QPushButton(), f"recent_{number}", f"Open {address}", address)
        row.setProperty("role", "flat")
        row.setIcon(icon("folder" if local and path.is_dir() else "model", theme.current()))
        inner = QHBoxLayout(row)
        inner.setContentsMargins(34, 0, 8, 0)
        inner.addWidget(label(path.name if local else address))
        where = ElidedLabel("faint")
        where.set_full(str(path.parent) if local else "")
        inner.addWidget(where, 1)
        row.setStyleSheet("text-align: left;")
        row.clicked.connect(lambda: self._session.open(address))
        return row

    def _show_state(self) -> None:
        session = self._session
        waiting = "The engine is starting…" if session.engine_state == "starting" else ""
        self._state.setText(f"{session.busy}…" if session.busy else waiting)
