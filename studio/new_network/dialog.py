"""The dialog behind "New sparse network…": what it is, what it learns from, how sparse it stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ...engine.errors import BadInput
from ...engine.new_network import ACTIVATIONS, NewNetwork, Preset
from ...engine.plan import training_fields
from ...engine.schedules import SCHEDULES
from ...engine.settings import Field
from ..look import theme
from ..look.widgets import label, named, wrapped
from ..plan.data_field import DataField
from ..plan.setting_form import indent, quiet
from ..plan.sparsity_row import SparsityRow
from ..state.session import Session
from .choice import Choice, Consequence, consequence
from .consequence_card import ConsequenceCard
from .known_data import not_there, sizes_of
from .preset_cards import PresetCards

_MOST_EPOCHS = 100_000
_MOST_CLASSES = 1_000_000
_CAPTION = 84
_GROWTH = {
    "gradient": "at the largest gradients of the outputs that cost most",
    "full": "at the largest gradients of all outputs",
    "random": "by chance",
    "none": "nowhere: the first topology stays",
}
"""Where new weights come, by the schedule's choices."""
_HIDDEN_TIP = {
    "mlp": "Widths of the hidden layers, from the input on, such as 300-100",
    "convnet": "Channels of the convolutions, from the input on, such as 16-32",
}


class NewNetworkDialog(QDialog):
    """Makes a fresh network and the plan that trains it sparse; Escape leaves all as it was.

    `help_wanted` carries the page of the guide that is asked for.
    """

    help_wanted = Signal(str)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.choice = Choice()
        self._filling = False
        self.setObjectName("new_network_dialog")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("New sparse network")
        self.setMinimumWidth(680)
        self._make_fields()
        self._lay_out()
        self.cards.chosen.connect(self._take_preset)
        self.hidden.textEdited.connect(lambda text: self._change(hidden=text.strip()))
        self.data.edited.connect(self._take_data)
        self.shape.textEdited.connect(lambda text: self._change(shape=text.strip()))
        self.classes.valueChanged.connect(lambda number: self._change(classes=number))
        self.epochs.valueChanged.connect(lambda number: self._change(epochs=number))
        self.sparsity.live.connect(lambda share: self._change(sparsity=share))
        for name, box in (
            ("activation", self.activation), ("loss", self.loss), ("growth", self.growth),
        ):  # fmt: skip
            box.currentIndexChanged.connect(
                lambda _, name=name, box=box: self._change(**{name: box.currentData()})
            )
        for signal in (session.busy_changed, session.engine_changed):
            signal.connect(self._show)
        self._show()
        self.hidden.setFocus()

    # Building

    def _make_fields(self) -> None:
        self.cards = named(PresetCards(), "network_presets", "Networks to begin with")
        self.hidden = named(QLineEdit(), "network_hidden", "Hidden widths")
        self.note = label(role="faint", name="network_note")
        self.note.setWordWrap(True)
        self.note.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.data = DataField(caption_width=_CAPTION + 4)
        self.data.box.setObjectName("network_data")
        self.data.show_address(self.choice.data, None)
        tip = "Size of one example: 28 features, or 1x28x28 for channels, height and width"
        self.shape = named(QLineEdit(), "network_shape", "Size of one example", tip)
        self.classes = _number("network_classes", "Classes", 1, _MOST_CLASSES)
        self.epochs = _number("network_epochs", "Epochs", 1, _MOST_EPOCHS)
        self.epochs.setToolTip("Passes over the training data")
        self.activation = _list("network_activation", "Activation", ACTIVATIONS)
        self.activation.setToolTip("What follows every layer but the last")
        loss = _field(training_fields(), "loss")
        self.loss = _list("network_loss", "Loss", loss.choices, loss.help)
        growth = _field(SCHEDULES.parse("sparse-training").fields(), "growth")
        self.growth = _list("network_growth", "Growth", growth.choices, growth.help)
        self.growth.setFixedWidth(160)
        self.sparsity = SparsityRow(name="network_sparsity")
        self.outcome = ConsequenceCard()
        self.why_not = label(role="error", name="network_why_not")
        self.why_not.setWordWrap(True)
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.create_ = self.buttons.addButton("Create", QDialogButtonBox.ButtonRole.AcceptRole)
        named(self.create_, "network_create", "Create").setProperty("role", "go")
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 18, 20, 16)
        column.setSpacing(8)
        head = QHBoxLayout()
        head.addWidget(label("Network", "heading"))
        head.addStretch(1)
        about = named(QPushButton("How it works"), "network_help", "How it works")
        about.setProperty("role", "link")
        about.setAutoDefault(False)
        about.setToolTip("The guide's page on training sparse from scratch  F1")
        about.setShortcut("F1")
        about.clicked.connect(lambda: self.help_wanted.emit("training-sparse.md"))
        head.addWidget(about)
        column.addLayout(head)
        column.addWidget(self.cards)
        self._hidden_name = label("Hidden widths", "dim")
        activation = label("Activation", "dim")
        column.addLayout(_pairs(((self._hidden_name, self.hidden, activation, self.activation),)))
        column.addWidget(self.note)
        column.addSpacing(6)
        column.addWidget(label("Training", "heading"))
        column.addWidget(self.data)
        example, classes, loss, epochs = (
            label(words, "dim") for words in ("Example", "Classes", "Loss", "Epochs")
        )
        column.addLayout(
            _pairs(
                (
                    (example, self.shape, classes, self.classes),
                    (loss, self.loss, epochs, self.epochs),
                )
            )
        )
        column.addSpacing(6)
        column.addWidget(self.sparsity)
        growth = QHBoxLayout()
        growth.setSpacing(10)
        caption = label("Growth", "dim")
        caption.setMinimumWidth(_CAPTION)
        caption.setBuddy(self.growth)
        self._growth_words = label(role="dim", name="network_growth_words")
        growth.addWidget(caption)
        growth.addWidget(self.growth)
        growth.addWidget(self._growth_words, 1)
        column.addLayout(growth)
        column.addSpacing(4)
        column.addWidget(self.outcome)
        column.addSpacing(8)
        foot = QHBoxLayout()
        foot.addWidget(self.why_not, 1)
        foot.addWidget(self.buttons)
        column.addLayout(foot)
        self.create_.setDefault(True)  # a dialog knows only a button that is in it already

    # What the person does

    def _change(self, **changes: Any) -> None:
        if not self._filling:
            self.choice = replace(self.choice, **changes)
            self._show()

    def _take_preset(self, preset: Preset) -> None:
        self.choice = self.choice.like(preset)
        self._show()

    def _take_data(self, address: str | None) -> None:
        changes: dict[str, Any] = {"data": address or ""}
        if sizes := sizes_of(address or ""):
            changes |= {"shape": "x".join(map(str, sizes[0])), "classes": sizes[1]}
        self._change(**changes)
        self.data.show_address(address, None)

    def accept(self) -> None:
        plan = self.choice.plan()
        super().accept()
        self._session.open(plan.model or "", plan=plan)

    # Showing

    def _show(self) -> None:
        choice = self.choice
        self._filling = True
        if self.hidden.text().strip() != choice.hidden:
            self.hidden.setText(choice.hidden)
        if self.shape.text().strip() != choice.shape:
            self.shape.setText(choice.shape)
        self.classes.setValue(choice.classes)
        self.epochs.setValue(choice.epochs)
        for box, value in (
            (self.activation, choice.activation), (self.loss, choice.loss),
            (self.growth, choice.growth),
        ):  # fmt: skip
            box.setCurrentIndex(box.findData(value))
        self.sparsity.show_sparsity(choice.sparsity)
        self._filling = False
        convnet = choice.kind == "convnet"
        self._hidden_name.setText("Channels" if convnet else "Hidden widths")
        self.hidden.setToolTip(wrapped(_HIDDEN_TIP[choice.kind]))
        self._growth_words.setText(_GROWTH[choice.growth])
        known = sizes_of(choice.data) is not None
        for field in (self.shape, self.classes):
            field.setEnabled(not known)
        self.cards.show_choice(choice)
        self._judge()

    def _judge(self) -> None:
        """Say what comes of the choice, or what is wrong with it."""
        choice = self.choice
        network, left, wrong, starved = _outcome(choice)
        self.note.setText(wrong or f"Address  {network.address if network else ''}")
        for widget, name, value in (
            (self.note, "role", "error" if wrong else "faint"),
            (self.hidden, "invalid", bool(wrong)),
        ):
            if widget.property(name) != value:
                widget.setProperty(name, value)
                theme.refresh(widget)
        self.outcome.show_outcome(network, left, choice.sparsity, starved)
        missing = not_there(choice.data) if choice.data else "Name the data that it learns from."
        waits = self._session.why_not("open")
        self.why_not.setText(missing or (f"{waits}." if waits else ""))
        why_not = wrong or starved or missing or waits
        self.create_.setEnabled(not why_not)
        self.create_.setToolTip(wrapped(why_not or "Open the network with this plan  Return"))


def _outcome(choice: Choice) -> tuple[NewNetwork | None, Consequence | None, str, str]:
    """The network and what is left of it; else what is wrong with it, or with the sparsity."""
    try:
        network = choice.network()
    except BadInput as error:
        return None, None, f"{error}.", ""
    try:
        return network, consequence(network, choice.sparsity), "", ""
    except BadInput as error:
        return network, None, "", f"{error}."


def _field(fields: tuple[Field, ...], name: str) -> Field:
    return next(field for field in fields if field.name == name)


def _number(name: str, accessible: str, low: int, high: int) -> QSpinBox:
    box = named(QSpinBox(), name, accessible)
    box.setRange(low, high)
    indent(box)
    quiet(box)
    return box


def _list(name: str, accessible: str, words: tuple[str, ...], tip: str = "") -> QComboBox:
    box = named(QComboBox(), name, accessible, tip)
    quiet(box)
    for word in words:
        box.addItem(word.replace("_", " "), word)
    return box


def _pairs(rows: tuple[tuple[QLabel, QWidget, QLabel, QWidget], ...]) -> QGridLayout:
    """Captions and fields, two of each in a row."""
    grid = QGridLayout()
    grid.setHorizontalSpacing(10)
    grid.setVerticalSpacing(8)
    for row, widgets in enumerate(rows):
        for column, widget in enumerate(widgets):
            grid.addWidget(widget, row, column)
        for caption, field in (widgets[:2], widgets[2:]):
            caption.setBuddy(field)
            caption.setMinimumWidth(_CAPTION)
    for column in (1, 3):
        grid.setColumnStretch(column, 1)
    return grid
