"""A form for any frozen settings object, made from its fields: a pattern's, a training's."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

from PySide6.QtCore import QEvent, QLocale, QObject, Qt, Signal
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QLayout,
    QLineEdit,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ...engine.errors import BadInput
from ...engine.settings import Field
from ..look import theme
from ..look.widgets import label, named, wrapped
from ..state.starting import base_type
from .number_list import NumberList

_MOST = 2_147_483_647
_NARROW = 8
"""Numbers with names up to this length share a row with the next one."""
FIELD_WIDTH = 164
"""Pixels of a field at the end of a row, so that fields of all forms stand under each other."""


def optional(field: Field) -> bool:
    """Whether the field may be empty."""
    return types.NoneType in getattr(field.type, "__args__", ())


class QuietWheel(QObject):
    """Keeps the wheel from changing a field that has no focus, so that a panel scrolls safely."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        wheel = event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget)
        if wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return False


def quiet(widget: QWidget) -> None:
    """Let `widget` take the wheel only while it has the focus."""
    widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    widget.installEventFilter(QuietWheel(widget))


def indent(box: QAbstractSpinBox) -> None:
    """Set the figures off the frame; a stylesheet's padding does not reach them."""
    box.lineEdit().setTextMargins(5, 0, 0, 0)


class NumberBox(QDoubleSpinBox):
    """A number that shows only the decimals it has, at least `least` of them."""

    def __init__(self, decimals: int = 10, least: int = 0, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._least = least
        self._low: float | None = None
        self.setLocale(QLocale.c())
        self.setDecimals(decimals)
        self.setKeyboardTracking(False)
        indent(self)
        quiet(self)

    def allow_empty(self) -> None:
        """Let it be empty too: what lies below the least value stands for that."""
        self._low = self.minimum()
        self.setMinimum(self._low - 1)
        self.setSpecialValueText("auto")

    def stepBy(self, steps: int) -> None:
        if self._low is not None and steps > 0 and self.value() < self._low:
            self.setValue(self._low)
        elif self._low is not None and steps < 0 and self.value() <= self._low:
            self.setValue(self.minimum())
        else:
            super().stepBy(steps)

    def textFromValue(self, value: float) -> str:
        whole, _, part = f"{value:.{self.decimals()}f}".partition(".")
        part = part.rstrip("0").ljust(self._least, "0")
        return f"{whole}.{part}" if part else whole


class SettingForm(QWidget):
    """Edits one frozen settings object; `edited` carries the new one after each valid change.

    A combination that the object refuses (BadInput) is explained below the fields, keeps what was
    typed, and emits nothing.
    """

    edited = Signal(object)

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self._value: Any = None
        self._fields: tuple[Field, ...] = ()
        self._typed: dict[str, Any] = {}
        self._editors: dict[str, QWidget] = {}
        self._placeholders: dict[str, str] = {}
        self._filling = False
        self._rows = QVBoxLayout()
        self._rows.setSpacing(6)
        self._problem = label(role="error", name=f"{name}_problem")
        self._problem.setWordWrap(True)
        self._problem.hide()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(6)
        outer.addLayout(self._rows)
        outer.addWidget(self._problem)

    @property
    def value(self) -> Any:
        """The object as last shown or validly edited."""
        return self._value

    def show_value(self, value: Any, fields: tuple[Field, ...]) -> None:
        """Show a frozen dataclass whose fields are described by `fields`; emits nothing."""
        if fields != self._fields or type(value) is not type(self._value):
            self._build(fields)
        self._value = value
        self._typed = {field.name: getattr(value, field.name) for field in fields}
        self._fill()
        self._complain("")
        self.setVisible(bool(fields))

    def set_placeholder(self, field: str, text: str) -> None:
        """The text that an empty field of words shows."""
        self._placeholders[field] = text
        editor = self._editors.get(field)
        if isinstance(editor, QLineEdit):
            editor.setPlaceholderText(text)

    def editor(self, field: str) -> QWidget:
        """The widget of a field; raises KeyError."""
        return self._editors[field]

    def _build(self, fields: tuple[Field, ...]) -> None:
        _clear(self._rows)
        self._editors = {field.name: self._make(field) for field in fields}
        self._fields = fields
        waiting: Field | None = None
        for field in fields:
            if waiting is not None and self._narrow(field):
                self._add_pair(waiting, field)
                waiting = None
                continue
            if waiting is not None:
                self._add_row(waiting)
            waiting = field if self._narrow(field) else None
            if waiting is None:
                self._add_row(field)
        if waiting is not None:
            self._add_row(waiting)

    def _narrow(self, field: Field) -> bool:
        number = isinstance(self._editors[field.name], QSpinBox | QDoubleSpinBox)
        return number and len(field.words) <= _NARROW

    def _add_row(self, field: Field) -> None:
        editor = self._editors[field.name]
        row = QHBoxLayout()
        if isinstance(editor, QCheckBox):
            editor.setText(field.words)
        else:
            row.addWidget(self._caption(field), 1)
            editor.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
            editor.setFixedWidth(FIELD_WIDTH)
        row.addWidget(editor)
        self._rows.addLayout(row)

    def _add_pair(self, *pair: Field) -> None:
        row = QHBoxLayout()
        row.setSpacing(12)
        for field in pair:
            cell = QHBoxLayout()
            cell.setSpacing(6)
            caption = self._caption(field)
            caption.setMinimumWidth(46)
            cell.addWidget(caption)
            cell.addWidget(self._editors[field.name], 1)
            row.addLayout(cell, 1)
        self._rows.addLayout(row)

    def _caption(self, field: Field) -> QLabel:
        caption = label(field.words, "dim")
        caption.setToolTip(wrapped(field.help))
        caption.setBuddy(self._editors[field.name])
        return caption

    def _make(self, field: Field) -> QWidget:
        kind = base_type(field)
        editor: QWidget
        if field.choices:
            editor = self._make_choice(field)
        elif kind is bool:
            editor = self._make_switch(field)
        elif field.several:
            editor = self._make_numbers(field)
        elif kind is int:
            editor = self._make_int(field)
        elif kind is float:
            editor = self._make_float(field)
        else:
            editor = self._make_text(field)
        # A box as wide as its largest number would be wider than the panel.
        editor.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        editor.setMinimumWidth(56)
        editor.setAccessibleDescription(field.help)
        return named(editor, f"{self.objectName()}_{field.name}", field.words, field.help)

    def _make_switch(self, field: Field) -> QCheckBox:
        box = QCheckBox()
        box.toggled.connect(lambda on: self._set(field.name, on))
        return box

    def _make_float(self, field: Field) -> NumberBox:
        box = NumberBox()
        low = _or(field.low, -1e9)
        box.setRange(low, _or(field.high, 1e9))
        box.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        if optional(field):
            box.allow_empty()
        box.valueChanged.connect(
            lambda value: self._set(field.name, None if value < low else value)
        )
        return box

    def _make_choice(self, field: Field) -> QComboBox:
        box = QComboBox()
        quiet(box)
        for word in field.choices:
            box.addItem(word, word)
        box.currentIndexChanged.connect(lambda index: self._set(field.name, box.itemData(index)))
        return box

    def _make_int(self, field: Field) -> QSpinBox:
        box = QSpinBox()
        indent(box)
        quiet(box)
        box.setLocale(QLocale.c())
        box.setKeyboardTracking(False)
        low, high = int(_or(field.low, -_MOST)), int(_or(field.high, _MOST))
        if optional(field):
            # The value below the least one stands for "empty".
            low -= 1
            box.setSpecialValueText("auto")
        box.setRange(low, min(high, _MOST))
        empty = low if optional(field) else None
        box.valueChanged.connect(
            lambda value: self._set(field.name, None if value == empty else value)
        )
        return box

    def _make_text(self, field: Field) -> QLineEdit:
        box = QLineEdit()
        box.setPlaceholderText(self._placeholders.get(field.name, ""))
        empty = None if optional(field) else ""
        box.editingFinished.connect(lambda: self._set(field.name, box.text().strip() or empty))
        return box

    def _make_numbers(self, field: Field) -> NumberList:
        box = NumberList(field)
        box.edited.connect(lambda value: self._set(field.name, value))
        return box

    def _fill(self) -> None:
        self._filling = True
        for field in self._fields:
            editor, value = self._editors[field.name], self._typed[field.name]
            if isinstance(editor, QComboBox):
                editor.setCurrentIndex(editor.findData(value))
            elif isinstance(editor, QCheckBox):
                editor.setChecked(bool(value))
            elif isinstance(editor, QSpinBox):
                editor.setValue(editor.minimum() if value is None else min(value, _MOST))
            elif isinstance(editor, QDoubleSpinBox):
                editor.setValue(editor.minimum() if value is None else value)
            elif isinstance(editor, NumberList):
                editor.show_numbers(value)
            elif isinstance(editor, QLineEdit):
                editor.setText(value or "")
        self._filling = False

    def _set(self, name: str, value: Any) -> None:
        if self._filling or self._typed[name] == value:
            return
        self._typed[name] = value
        try:
            made = dataclasses.replace(self._value, **self._typed)
        except BadInput as error:
            self._complain(str(error), name)
            return
        self._value = made
        self._complain("")
        self.edited.emit(made)

    def _complain(self, message: str, name: str = "") -> None:
        self._problem.setText(message)
        self._problem.setVisible(bool(message))
        for field, editor in self._editors.items():
            invalid = bool(message) and field == name
            if bool(editor.property("invalid")) != invalid:
                editor.setProperty("invalid", invalid)
                theme.refresh(editor)


def _clear(layout: QLayout) -> None:
    while (item := layout.takeAt(0)) is not None:
        inner, widget = item.layout(), item.widget()
        if inner is not None:
            _clear(inner)
        elif widget is not None:
            widget.hide()
            widget.setParent(None)
            widget.deleteLater()


def _or(bound: float | None, otherwise: float) -> float:
    return otherwise if bound is None else bound
