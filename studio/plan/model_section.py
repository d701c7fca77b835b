"""What the plan says of the whole model: how much where, when, how it is retrained, what stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from ...engine.allocation import ALLOCATIONS
from ...engine.plan import Plan, Rule, Training, plan_fields
from ...engine.schedules import SCHEDULES
from ...engine.schedules.nested import Nested
from ..look.widgets import label, named
from ..state.plan_reasons import no_teacher, refusal, schedule_reasons, wrong_steps
from ..state.session import Session
from .plan_sections import KindSection, TrainingSection
from .presets import PresetsMenu
from .schedule_curve import ScheduleCurve


class ModelSection(QWidget):
    """Edits what the session's plan says of no single layer."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._rule: Rule | None = None
        self._filling = False
        self.allocation = KindSection("Allocation", "allocation", ALLOCATIONS)
        self.schedule = KindSection("Schedule", "schedule", SCHEDULES)
        self.curve = ScheduleCurve()
        self.training = TrainingSection()
        self.ends = _switch("Keep the first and last layer dense", "plan_ends", "ends")
        self.zeros = _switch("Keep zeros that are there already", "plan_take_zeros", "take_zeros")
        self.presets = named(QPushButton("Presets"), "presets", "Presets")
        self.presets.setProperty("role", "menu")
        self.presets.setToolTip("Start from one of the plans that come with Secateur")
        self.presets.setMenu(PresetsMenu(session, self.presets))
        head = QHBoxLayout()
        head.addWidget(label("Whole model", "dim"))
        head.addStretch(1)
        head.addWidget(self.presets)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(head)
        for part in (
            self.allocation, self.ends, self.zeros,
            self.schedule, self.curve, self.training,
        ):  # fmt: skip
            column.addWidget(part)
        self.allocation.edited.connect(self._set_allocation)
        self.schedule.edited.connect(self._set_schedule)
        self.training.edited.connect(self._set_training)
        self.ends.toggled.connect(self._set_ends)
        self.zeros.toggled.connect(self._set_zeros)
        session.run_changed.connect(self._show_curve)

    def show_plan(self, rule: Rule | None) -> None:
        """Show the session's plan; the curve leads to the sparsity of `rule`."""
        self._rule = rule
        plan, info = self._session.plan, self._session.info
        self.allocation.show_setting(plan.allocation)
        self.schedule.show_setting(plan.schedule)
        self._show_misfit()
        self._filling = True
        self.ends.setChecked(plan.ends == "dense")
        self.zeros.setChecked(plan.take_zeros)
        self._filling = False
        own_data = info.data if info is not None else None
        per_epoch = self._session.steps_per_epoch
        untaught = no_teacher(plan, info) if info is not None else ""
        self.training.show_training(
            plan.training,
            plan.schedule,
            own_data,
            per_epoch,
            untaught or wrong_steps(plan, per_epoch),
        )
        self._show_curve()

    def _show_misfit(self) -> None:
        plan, info = self._session.plan, self._session.info
        ruled = self._session.assigned.ruled
        reasons = schedule_reasons(ruled, plan, info) if info is not None else {}
        self.schedule.set_reasons(reasons)
        words = refusal(ruled, plan, of_schedule=True)
        self.schedule.say(f"{words}." if words else "")

    def _show_curve(self) -> None:
        run = self._session.run
        final = self._rule.sparsity if self._rule is not None else 0.0
        schedule = self._session.plan.schedule
        if isinstance(schedule, Nested) and final > 0:
            final = schedule.levels[0]  # they stand in place of the rules' sparsities
        training = run.active and run.kind == "prune" and schedule.trains and run.total > 0
        # Before the first training step a run counts layers, which are no place on this curve.
        if training and run.text.startswith("epoch"):
            self.curve.show_schedule(schedule, final, self._planned(), run.done, run.total)
        else:
            self.curve.show_schedule(schedule, final)
        self.curve.setVisible(final > 0)

    def _planned(self) -> int:
        """The steps that the run under way had planned, as far as it has shown that."""
        run, training = self._session.run, self._session.plan.training
        measured = (step for step, values in run.metrics if "loss" in values)
        per_epoch = next(measured, self._session.steps_per_epoch)
        return training.epochs * per_epoch if training and per_epoch else run.total

    def _set_allocation(self, allocation: Any) -> None:
        self._change(f"allocation {allocation.kind}", allocation=allocation)

    def _set_schedule(self, schedule: Any) -> None:
        training = self._session.plan.training
        if schedule.trains and training is None:
            training = Training()
        self._change(f"schedule {schedule.kind}", schedule=schedule, training=training)

    def _set_training(self, training: Training | None) -> None:
        words = "retrain under the masks" if training is not None else "no retraining"
        self._change(words, training=training)

    def _set_ends(self, dense: bool) -> None:
        words = "keep first and last layer dense" if dense else "prune first and last layer too"
        self._change(words, ends="dense" if dense else "prune")

    def _set_zeros(self, take: bool) -> None:
        words = "keep zeros that are there" if take else "leave zeros that are there"
        self._change(words, take_zeros=take)

    def _change(self, text: str, **changes: Any) -> None:
        if not self._filling:
            plan: Plan = replace(self._session.plan, **changes)
            self._session.set_plan(plan, text)


def _switch(text: str, name: str, key: str) -> QCheckBox:
    tip = next(each.help for each in plan_fields() if each.name == key)
    made = named(QCheckBox(text), name, text, tip)
    made.setAccessibleDescription(tip)
    return made
