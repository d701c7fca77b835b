"""Parts of the plan panel: a kind chosen from a family with its form, and the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QStandardItemModel
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QVBoxLayout, QWidget

from ...engine.plan import Training, training_fields
from ...engine.schedules import Schedule
from ...engine.settings import Family, Setting
from ..look.widgets import label, named, wrapped
from ..state.starting import starting
from .data_field import DataField
from .setting_form import SettingForm, quiet

_KIND_WIDTH = 200
"""Pixels of a list of kinds: as much as the longest name takes."""


class KindSection(QWidget):
    """A labelled list of a family's kinds, and below it the chosen kind's own settings.

    `edited` carries the new setting. A family of one kind is shown by its form alone.
    """

    edited = Signal(object)

    def __init__(
        self, caption: str, name: str, family: Family[Any], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._kinds: list[type[Setting]] = list(family)
        self._last: dict[str, Setting] = {}
        self.box = named(QComboBox(), name, caption)
        quiet(self.box)
        for index, kind in enumerate(self._kinds):
            self.box.addItem(kind.label or kind.kind, kind.kind)
            self.box.setItemData(index, wrapped(kind.summary()), Qt.ItemDataRole.ToolTipRole)
        self.form = SettingForm(f"{name}_form")
        self.form.edited.connect(self._formed)
        self.form.setVisible(False)
        row = QHBoxLayout()
        words = label(caption)
        words.setBuddy(self.box)
        row.addWidget(words)
        row.addStretch(1)
        row.addWidget(self.box)
        self.box.setFixedWidth(_KIND_WIDTH)
        self._misfit = label("", "warn", f"{name}_misfit")
        self._misfit.setWordWrap(True)
        self._misfit.hide()
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(6)
        box.addLayout(row)
        box.addWidget(self._misfit)
        box.addWidget(self.form)
        self.box.activated.connect(self._chosen)

    def show_setting(self, setting: Setting) -> None:
        """Show a setting; emits nothing."""
        self._last[setting.kind] = setting
        self.box.setCurrentIndex(self.box.findData(setting.kind))
        self.box.setToolTip(wrapped(type(setting).summary()))
        self.form.show_value(setting, setting.fields())

    def set_reasons(self, reasons: Mapping[str, str]) -> None:
        """Disable the kinds in `reasons`, each with its reason for a tooltip; enable the others."""
        model = self.box.model()
        assert isinstance(model, QStandardItemModel)
        for index, cls in enumerate(self._kinds):
            reason = reasons.get(cls.kind)
            item = model.item(index)
            item.setEnabled(reason is None)
            item.setToolTip(wrapped(reason or cls.summary()))

    def say(self, misfit: str) -> None:
        """Say below the list why what is chosen does not fit; empty: it does."""
        self._misfit.setText(misfit)
        self._misfit.setVisible(bool(misfit))

    def _chosen(self, index: int) -> None:
        cls = self._kinds[index]
        if cls.kind == getattr(self.form.value, "kind", None):
            return
        # What was set for a kind before is still there when the person comes back to it.
        setting = self._last.get(cls.kind) or starting(cls)
        self.show_setting(setting)
        self.edited.emit(setting)

    def _formed(self, setting: Setting) -> None:
        self._last[setting.kind] = setting
        self.edited.emit(setting)


class TrainingSection(QWidget):
    """Whether and how the model is retrained; `edited` carries a `Training`, or None for not."""

    edited = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._last = Training()
        self._filling = False
        self.switch = named(QCheckBox("Retrain under the masks"), "retrain", "Retrain")
        self._words = label("", "dim", "training_words")
        self._words.setWordWrap(True)
        self.data = DataField()
        self.data.edited.connect(lambda data: self._formed(replace(self._last, data=data)))
        self.form = SettingForm("training_form")
        self.form.edited.connect(self._formed)
        self._note = label("", "warn", "training_note")
        self._note.setWordWrap(True)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(6)
        for part in (self.switch, self._words, self.data, self._note, self.form):
            box.addWidget(part)
        self.switch.toggled.connect(self._switched)

    def show_training(
        self,
        training: Training | None,
        schedule: Schedule,
        own_data: str | None,
        per_epoch: int | None = None,
        problem: str = "",
    ) -> None:
        """Show a training; where the schedule trains it can't be switched off.

        `per_epoch` is how many steps a pass over the data takes, None while that is not known;
        `problem` says why it cannot be done, where not for want of data.
        """
        if training is not None:
            self._last = training
        on = schedule.trains or training is not None
        self._filling = True
        self.switch.setChecked(on)
        self._filling = False
        self.switch.setEnabled(not schedule.trains)
        why = f"{schedule.label} prunes while the model trains, so there is always training."
        tip = why if schedule.trains else "Train the kept weights after pruning"
        self.switch.setToolTip(wrapped(tip))
        self.data.show_address(self._last.data, own_data)
        self.data.setVisible(on)
        self.form.show_value(self._last, _FIELDS)
        self.form.setVisible(on)
        data = self._last.data or own_data
        self._words.setText(training_words(self._last, data, per_epoch, schedule) if data else "")
        self._words.setVisible(on and data is not None)
        who = schedule.label if schedule.trains else "Retraining"
        if data is None:
            problem = f"{who} needs data, and this model brings none: name some above"
        self._note.setText(f"{problem}.")
        self._note.setVisible(on and bool(problem))

    def _switched(self, on: bool) -> None:
        if not self._filling:
            self.edited.emit(self._last if on else None)

    def _formed(self, training: Training) -> None:
        self._last = training
        self.edited.emit(training)


_FIELDS = tuple(field for field in training_fields() if field.name != "data")
"""The data has a field of its own."""


def training_words(training: Training, data: str, per_epoch: int | None, schedule: Schedule) -> str:
    """What a training will do: ``20 epochs of sample:digits: 460 steps of 64 samples``."""
    if training.epochs == 0:
        return f"No training; {data} measures the accuracy."
    epochs = f"{training.epochs:,} epoch{'' if training.epochs == 1 else 's'} of {data}"
    if per_epoch is None:
        return f"{epochs}, {training.batch:,} samples a step."
    planned = training.epochs * per_epoch
    total = schedule.steps(planned, per_epoch)
    words = f"{epochs}: {planned:,} steps of {training.batch:,} samples, {per_epoch:,} an epoch"
    return words + (f", and on to {total:,} to recover." if total > planned else ".")
