"""Parts of the plan panel: a kind chosen from a family with its form, and the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QStandardItemModel
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QVBoxLayout, QWidget

from ..engine.plan import Training, training_fields
from ..engine.settings import Family, Setting
from .setting_form import FIELD_WIDTH, SettingForm, quiet, starting
from .widgets import label, named


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
            self.box.setItemData(index, kind.summary(), Qt.ItemDataRole.ToolTipRole)
        self.form = SettingForm(f"{name}_form")
        self.form.edited.connect(self._formed)
        self.form.setVisible(False)
        row = QHBoxLayout()
        words = label(caption)
        words.setBuddy(self.box)
        row.addWidget(words)
        row.addStretch(1)
        row.addWidget(self.box)
        self.box.setFixedWidth(FIELD_WIDTH)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(6)
        box.addLayout(row)
        box.addWidget(self.form)
        self.box.activated.connect(self._chosen)

    def show_setting(self, setting: Setting) -> None:
        """Show a setting; emits nothing."""
        self._last[setting.kind] = setting
        self.box.setCurrentIndex(self.box.findData(setting.kind))
        self.box.setToolTip(type(setting).summary())
        self.form.show_value(setting, setting.fields())

    def set_reasons(self, reasons: Mapping[str, str]) -> None:
        """Disable the kinds in `reasons`, each with its reason for a tooltip; enable the others."""
        model = self.box.model()
        assert isinstance(model, QStandardItemModel)
        for index, cls in enumerate(self._kinds):
            reason = reasons.get(cls.kind)
            item = model.item(index)
            item.setEnabled(reason is None)
            item.setToolTip(reason or cls.summary())

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
        self.form = SettingForm("training_form")
        self.form.edited.connect(self._formed)
        self._note = label(
            "This model brings no data: name some to train on.", "warn", "training_note"
        )
        self._note.setWordWrap(True)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(6)
        box.addWidget(self.switch)
        box.addWidget(self.form)
        box.addWidget(self._note)
        self.switch.toggled.connect(self._switched)

    def show_training(self, training: Training | None, needed: bool, own_data: str | None) -> None:
        """Show a training. `needed`: the schedule trains, so it can't be switched off."""
        if training is not None:
            self._last = training
        on = needed or training is not None
        self._filling = True
        self.switch.setChecked(on)
        self._filling = False
        self.switch.setEnabled(not needed)
        why = "This schedule prunes while the model trains, so there is always training."
        self.switch.setToolTip(why if needed else "Train the kept weights after pruning")
        self.form.set_placeholder("data", own_data or "such as sample:digits")
        self.form.show_value(self._last, training_fields())
        self.form.setVisible(on)
        missing = on and own_data is None and self._last.data is None
        self._note.setVisible(missing)

    def _switched(self, on: bool) -> None:
        if not self._filling:
            self.edited.emit(self._last if on else None)

    def _formed(self, training: Training) -> None:
        self._last = training
        self.edited.emit(training)
