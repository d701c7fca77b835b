"""Running a plan: a plain generator of events, for a notebook, the command line and the engine."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path

from torch import nn

from ..bitmasks import PackedMasks
from ..calibration.passes import Calibration
from ..calibration.statistics import check_data
from ..control import Control, Stopped
from ..data import Data
from ..data.evaluate import accuracy, check_fits
from ..device import pick_device
from ..errors import BadInput
from ..events import (
    Cancelled,
    Event,
    Finished,
    LayerDone,
    Log,
    Metric,
    Progress,
    Started,
)
from ..masks import Masks, masked
from ..models.model import Model
from ..plan import Plan, Rule, Training
from ..plan.presets import as_plan
from ..project import make_writable
from ..report import Report
from ..schedules.nested import Nested
from ..schedules.sparse_training import SparseTraining
from ..topology import Topology
from .assignment import assign, check_finite
from .checkpoint import check_free, run_key
from .learning import Learning
from .loop import Lesson, Loop, changed
from .module_weights import matrices, put, with_module
from .nesting import Level, Nest, choose, loosest_rules, nest_of, note_of
from .outcome import Outcome
from .pruner import Pruner
from .remarks import pattern_word
from .run_data import data_of, training_of
from .run_report import Account, report_of
from .sparse_learning import SparseLearning
from .zeros import check_kept_zero, words, zeros_of

Events = Generator[Event, None, None]


class Run:
    """One run of a plan on a model. The model's own weights are never changed.

    `plan` may be the address of one, a file or ``preset:NAME``. Raises BadInput for a plan that
    does not fit the model, before anything is done; NeedsConsent where the plan's data is a loader
    of someone's own, whose code only `trust_data` lets run.

    `masks` are the current masks, replaced as a whole whenever they change, so that another thread
    may look at them; `topology` also has those that they replaced. `outcome` is there once `events`
    has ended with Finished. `folder` is made if it is not there, and training writes its
    ``checkpoint.pt`` there; without one a run cannot be resumed. Nothing else is left there:
    `outcome.save` writes the project.
    """

    def __init__(
        self,
        model: Model,
        plan: Plan | str | Path,
        *,
        control: Control | None = None,
        folder: str | Path | None = None,
        device: str = "auto",
        trust_data: bool = False,
    ) -> None:
        if not isinstance(model, Model):
            raise BadInput(f"a run takes a model that is open: secateur.open_model({model!r})")
        plan = as_plan(plan)
        self.model = model
        self.plan = plan
        self.masks = Masks()
        self.topology = Topology(self.masks, self.masks.layers)
        self.outcome: Outcome | None = None
        self._started = time.monotonic()
        self._control = control or Control()
        self._folder = None if folder is None else Path(folder)
        self._device = pick_device(device)
        assigned = assign(model, plan)
        self._rules = loosest_rules(plan, assigned.rules)
        self._notes = (*assigned.notes, *note_of(plan))
        self._groups = assigned.groups
        self._training = training_of(model, plan)
        self._data = data_of(model, plan, trust_data)
        check_data(model.info, plan, {p: rule.criterion for p, rule in self._rules.items()})
        if self._data is not None:
            check_fits(model.runnable(), self._data)
            if self._training is not None:
                batches = self._data.steps("train", self._training.batch)
                plan.schedule.check(self._training.epochs * batches)
            self._notes = (*self._notes, *self._data.notes)
        check_finite(model, self._rules)
        if isinstance(plan.schedule, SparseTraining):
            _check_fresh(plan)
        self._taken = zeros_of(model) if plan.take_zeros else PackedMasks()
        check_kept_zero(self._taken, self._rules)
        if plan.take_zeros:
            self._notes = (*self._notes, words(self._taken))
        if not self._rules and not self._taken:
            raise BadInput(
                f"the plan prunes no layer: it has no rule for one, and {words(self._taken)}"
            )

    def events(self) -> Events:
        """Run the plan. Ends with Finished or Cancelled; raises BadInput for what cannot be run."""
        try:
            yield from self._run()
        except Stopped:
            yield Cancelled()

    def _run(self) -> Events:
        self._started = time.monotonic()
        yield Started(
            f"{self.model.info.name} · {_title(self.plan, self._rules)}", len(self._rules)
        )
        if self._folder is not None:
            make_writable(self._folder)
        for note in self._notes:
            yield Log(note)
        digest = self.model.digest()
        data = self._data
        dense = None
        # Weights that have learned nothing have no accuracy to compare with.
        if data is not None and not isinstance(self.plan.schedule, SparseTraining):
            yield Progress(0, 0, "measuring the dense model's accuracy")
            dense = accuracy(self.model.runnable().to(self._device), data, self._device)
            yield Metric(0, {"dense_accuracy": dense})
        history: list[tuple[int, dict[str, float]]] = []
        trained: nn.Module | None
        pruner: Pruner | None = None
        if self._training is None or data is None:
            trained, steps = self._copy_to_update(), 0
            pruner = self._pruner(trained)
            final = yield from self._allocate(pruner)
            yield from self._prune_once(pruner, final, trained)
        else:
            learning = self._learning(self._training, data, digest, dense)
            yield from learning.events()
            final, steps, self.masks = learning.final, learning.steps, learning.masks
            history, self._started = learning.history, learning.started
            self._notes = (*self._notes, *learning.notes)
            # Masks alone were learned: the weights are those that were loaded.
            trained = None if self.plan.schedule.frozen else learning.module
        model = self.model if trained is None else with_module(self.model, trained)
        pruned = self._accuracy(model)(self.masks)
        chosen: tuple[Level, ...] = ()
        if isinstance(self.plan.schedule, Nested):
            loosest = Level(self.plan.schedule.levels[0], final, self.masks, pruned)
            pruner = pruner or self._pruner(trained)
            chosen = yield from choose(pruner, self.plan.schedule, loosest, self._accuracy(model))
        for used in (self.model.module, model.module):
            if used is not None:
                used.cpu()
        self.masks = self.masks.cpu()
        nest = nest_of(model, chosen, self._folder) if chosen else None
        report = self._report(model, final, digest, (dense, pruned), steps, history, nest)
        yield from map(Log, report.notes[len(model.info.notes) + len(self._notes) :])
        for layer in report.layers:
            yield LayerDone(layer.path, {"requested": layer.requested, "achieved": layer.achieved})
        levels = nest.levels if nest else None
        self.outcome = Outcome(model, self.plan, self.masks, report, trained is not None, levels)
        yield Finished(report.to_json())

    def _accuracy(self, model: Model) -> Callable[[Masks], float | None]:
        """Measures the model's accuracy under masks; None without data."""

        def measured(masks: Masks) -> float | None:
            if self._data is None:
                return None
            with masked(model, masks):
                return accuracy(model.runnable(), self._data, self._device)

        return measured

    def _copy_to_update(self) -> nn.Module | None:
        """A copy for the new weights of criteria that update them; None where none does."""
        if not any(rule.criterion.updates_weights for rule in self._rules.values()):
            return None
        return copy.deepcopy(self.model.runnable())

    def _pruner(self, module: nn.Module | None = None) -> Pruner:
        """Over the weights of `module`, or without one as they were loaded."""
        matrix = self.model.matrix if module is None else matrices(self.model, module)
        calibration = None
        if self._data is not None:
            calibration = Calibration(
                module or self.model.runnable(),
                self._data,
                seed=self.plan.seed,
                device=self._device,
                check=self._control.check,
            )
        return Pruner(
            self.model, self.plan, self._rules, matrix, calibration, self._taken, self._groups
        )

    def _allocate(self, pruner: Pruner) -> Generator[Event, None, dict[str, float]]:
        self._control.check()
        yield Progress(0, len(self._rules), f"sharing out the budget ({self.plan.allocation.kind})")
        return pruner.sparsities()

    def _prune_once(
        self, pruner: Pruner, final: dict[str, float], updated: nn.Module | None
    ) -> Events:
        """Set all masks; `updated` takes each layer's new weights before the next layer's turn."""
        layers = PackedMasks(self._taken)
        decided = pruner.decided(final)
        for index, path in enumerate(self._rules):
            self._control.check()
            taken = pruner.statistics.samples_for(path)
            words = f"{path} · {taken} calibration samples" if taken else path
            yield Progress(index, len(self._rules), words)
            layers.packed[path], weight = pruner.prune(path, decided[path])
            if updated is not None:
                if weight is None:
                    weight = matrices(self.model, updated)(path) * layers[path]
                put(self.model, updated, path, weight)
        notes = pruner.orders.take_notes()
        self._notes = (*self._notes, *notes)
        yield from map(Log, notes)
        masks = pruner.with_vectors(layers)
        self._show(Topology(masks, masks.layers))
        yield changed(0, PackedMasks(), self.masks)

    def _learning(self, training: Training, data: Data, digest: str, dense: float | None) -> Loop:
        lesson = Lesson(
            model=self.model,
            plan=self.plan,
            training=training,
            data=data,
            device=self._device,
            control=self._control,
            folder=self._folder,
            key=run_key(self.plan, digest),
            dense=dense,
            taken=dict(self._taken),
            started=self._started,
        )
        if isinstance(self.plan.schedule, SparseTraining):
            return SparseLearning(lesson, self._pruner(), self._show)
        return Learning(lesson, self._pruner, self._show)

    def _show(self, topology: Topology) -> None:
        self.masks, self.topology = topology.masks, topology

    def _report(
        self,
        model: Model,
        final: dict[str, float],
        digest: str,
        accuracies: tuple[float | None, float | None],
        steps: int,
        history: list[tuple[int, dict[str, float]]],
        nest: Nest | None,
    ) -> Report:
        seconds = time.monotonic() - self._started
        notes = (*model.info.notes, *self._notes)
        account = Account(
            self._rules, final, self._taken, accuracies, steps, seconds, notes, tuple(history)
        )
        if nest is not None:
            account = replace(account, levels=nest.reports, shared=nest.shared)
        return report_of(model, self.plan, self.masks, account, digest, self._folder)


def run(
    model: Model,
    plan: Plan | str | Path,
    cancel: Control | None = None,
    *,
    folder: str | Path | None = None,
    device: str = "auto",
    trust_data: bool = False,
) -> Iterator[Event]:
    """Run `plan` on `model` and yield its events; see `Run` for the arguments.

    A run that was stopped in `folder` goes on, and a finished one is written there as a project.
    Raises BadInput for a folder that holds anything else. `Run` gives the pruned model without one.
    """
    made = Run(model, plan, control=cancel, folder=folder, device=device, trust_data=trust_data)
    if folder is None:
        return made.events()
    check_free(Path(folder), model, made.plan)
    return _saved(made, Path(folder))


def _saved(made: Run, folder: Path) -> Events:
    for event in made.events():
        if made.outcome is not None and isinstance(event, Finished):
            event = Finished(made.outcome.save(folder))
        yield event


def _check_fresh(plan: Plan) -> None:
    """Raise BadInput where a plan that draws all weights anew wants something of the old ones."""
    if plan.take_zeros:
        raise BadInput(
            "sparse-training draws its own topology and cannot take over zeros; leave "
            "take_zeros out of the plan"
        )
    if plan.training is not None and plan.training.within > 0:
        raise BadInput(
            "sparse-training begins with weights that have learned nothing, so that there is no "
            "dense accuracy to stop within; leave within out of the training"
        )


def _title(plan: Plan, rules: dict[str, Rule]) -> str:
    patterns = list(dict.fromkeys(_word(rule) for rule in rules.values())) or ["zeros"]
    return f"{plan.schedule.label} · {', '.join(patterns[:3])}{' …' if len(patterns) > 3 else ''}"


def _word(rule: Rule) -> str:
    name = pattern_word(rule)
    if rule.pattern.fixed_sparsity is not None:
        return name
    return f"{name} {rule.sparsity * 100:.4g}%"
