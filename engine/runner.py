"""Running a plan: a plain generator of events, for a notebook, the command line and the engine."""

from __future__ import annotations

import copy
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .calibration.passes import Calibration
from .calibration.statistics import check_data
from .checkpoint import Checkpoint, run_key
from .control import Control, Stopped
from .data import Data, load_data
from .device import pick_device
from .errors import BadInput
from .evaluate import accuracy, check_fits
from .events import (
    Cancelled,
    Event,
    Finished,
    LayerDone,
    Log,
    MaskChanged,
    Metric,
    Progress,
    Started,
)
from .machine import describe
from .masks import Masks, masked
from .models.model import Model
from .models.weights_table import is_parameter
from .plan import Plan, Rule, Training
from .pruner import Pruner, assign, check_finite
from .report import LayerReport, Report
from .storage import compressed_bytes
from .training import Trainer, teacher_of

Events = Generator[Event, None, None]

CHECKPOINT = "checkpoint.pt"
_SECONDS_BETWEEN_CHECKPOINTS = 5.0


@dataclass
class Outcome:
    """What a finished run leaves: `model` computes with its new weights, without the masks.

    `trained` says that the weights are not those that were loaded: by training, or because a
    criterion updates them.
    """

    model: Model
    masks: Masks
    report: Report
    trained: bool


class Run:
    """One run of a plan on a model. The model's own weights are never changed.

    Raises BadInput for a plan that does not fit the model, before anything is done.

    `masks` are the current masks, replaced as a whole whenever they change, so that another thread
    may look at them. `outcome` is there once `events` has ended with Finished. `folder` is where
    checkpoints go; without one a run cannot be resumed.
    """

    def __init__(
        self,
        model: Model,
        plan: Plan,
        *,
        control: Control | None = None,
        folder: Path | None = None,
        device: str = "auto",
    ) -> None:
        self.model = model
        self.plan = plan
        self.masks = Masks()
        self.outcome: Outcome | None = None
        self._control = control or Control()
        self._folder = folder
        self._device = pick_device(device)
        self._rules = assign(model, plan)
        self._training = _training_of(model, plan)
        self._data = _data_of(model, plan)
        check_data(model.info, plan, {p: rule.criterion for p, rule in self._rules.items()})
        if self._data is not None:
            check_fits(model.runnable(), self._data)
        check_finite(model, self._rules)
        self._history: list[tuple[int, dict[str, float]]] = []

    def events(self) -> Events:
        """Run the plan. Ends with Finished or Cancelled; raises BadInput for what cannot be run."""
        try:
            yield from self._run()
        except Stopped:
            yield Cancelled()

    def _run(self) -> Events:
        started = time.monotonic()
        yield Started(
            f"{self.model.info.name} · {_title(self.plan, self._rules)}", len(self._rules)
        )
        digest = self.model.digest()
        data = self._data
        dense = None
        if data is not None:
            yield Progress(0, 0, "measuring the dense model's accuracy")
            dense = accuracy(self.model.runnable().to(self._device), data, self._device)
            yield self._metric(0, {"dense_accuracy": dense})
        if self._training is None or data is None:
            trained, steps = self._copy_to_update(), 0
            pruner = self._pruner(trained)
            final = yield from self._allocate(pruner)
            yield from self._prune_once(pruner, final, trained)
        else:
            final = yield from self._allocate(self._pruner())
            trained, steps = yield from self._train(final, data, run_key(self.plan, digest))
        model = self.model if trained is None else _with_module(self.model, trained)
        pruned = None
        if data is not None:
            with masked(model, self.masks):
                pruned = accuracy(model.runnable(), data, self._device)
        for used in (self.model.module, model.module):
            if used is not None:
                used.cpu()
        self.masks = _on_cpu(self.masks)
        report = self._report(model, final, digest, (dense, pruned), steps, started)
        for layer in report.layers:
            yield LayerDone(layer.path, {"requested": layer.requested, "achieved": layer.achieved})
        self.outcome = Outcome(model, self.masks, report, trained is not None)
        yield Finished(report.to_json())

    def _copy_to_update(self) -> nn.Module | None:
        """A copy for the new weights of criteria that update them; None where none does."""
        if not any(rule.criterion.updates_weights for rule in self._rules.values()):
            return None
        return copy.deepcopy(self.model.runnable())

    def _pruner(self, module: nn.Module | None = None) -> Pruner:
        """Over the weights of `module`, or without one as they were loaded."""
        matrix = self.model.matrix if module is None else _matrices(self.model, module)
        calibration = None
        if self._data is not None:
            calibration = Calibration(
                module or self.model.runnable(),
                self._data,
                seed=self.plan.seed,
                device=self._device,
                check=self._control.check,
            )
        return Pruner(self.model, self.plan, self._rules, matrix, calibration)

    def _allocate(self, pruner: Pruner) -> Generator[Event, None, dict[str, float]]:
        self._control.check()
        yield Progress(0, len(self._rules), f"sharing out the budget ({self.plan.allocation.kind})")
        return pruner.sparsities()

    def _prune_once(
        self, pruner: Pruner, final: dict[str, float], updated: nn.Module | None
    ) -> Events:
        """Set all masks; `updated` takes each layer's new weights before the next layer's turn."""
        layers: dict[str, Tensor] = {}
        for index, path in enumerate(self._rules):
            self._control.check()
            taken = pruner.statistics.samples_for(path)
            words = f"{path} · {taken} calibration samples" if taken else path
            yield Progress(index, len(self._rules), words)
            layers[path], weight = pruner.prune(path, final[path])
            if updated is not None:
                if weight is None:
                    weight = _matrices(self.model, updated)(path) * layers[path]
                _put(self.model, updated, path, weight)
        self.masks = pruner.with_vectors(layers)
        yield self._changed(0, {})

    def _train(
        self, final: dict[str, float], data: Data, key: str
    ) -> Generator[Event, None, tuple[nn.Module, int]]:
        training, schedule = self._training, self.plan.schedule
        assert training is not None
        per_epoch = data.steps("train", training.batch)
        planned = training.epochs * per_epoch
        last, total = schedule.last_step(planned), planned
        if schedule.trains and last + per_epoch > planned:
            # The final masks are worth little without time to recover under them: as by default, a
            # quarter of the training, and no less than the epochs that were asked for.
            total = last + max(per_epoch, planned, last // 3)
            yield Log(
                f"{schedule.kind} ends at step {last}, past {training.epochs} epochs ({planned} "
                f"steps): training goes on after it, to step {total}"
            )
        torch.manual_seed(self.plan.seed)
        module = copy.deepcopy(self.model.runnable())
        teacher = teacher_of(self.model, training)
        trainer = Trainer(module, training, self._device, teacher)
        pruner = self._pruner(module)
        step = self._resume(trainer, pruner, key)
        if step is None:
            yield Log("the checkpoint in the folder is of another run; this one starts anew")
            step = 0
        if step:
            yield Log(f"resumed from the checkpoint at step {step} of {total}")
            yield self._changed(step, {})
            yield from (Metric(at, values) for at, values in self._history)
        clock = _Clock(step, total)
        try:
            while True:
                epoch, skip = divmod(step, per_epoch)
                batches = data.batches(
                    "train",
                    training.batch,
                    seed=self.plan.seed,
                    epoch=epoch,
                    shuffle=True,
                    augment=True,
                )
                for index, (inputs, labels) in enumerate(batches):
                    if index < skip:
                        continue
                    self._control.check()
                    yield from self._update(trainer, pruner, final, step, planned)
                    if step == total:
                        return module.eval(), total
                    loss = self._step(trainer, inputs, labels, step, total)
                    step += 1
                    if clock.due():
                        text = f"epoch {epoch + 1} of {-(-total // per_epoch)}"
                        yield Progress(step, total, text, clock.left(step))
                    if step % per_epoch == 0 or step == total:
                        reached = accuracy(module, data, self._device)
                        now = {"loss": loss, "accuracy": reached, "sparsity": self._sparsity()}
                        yield self._metric(step, now)
                    if clock.checkpoint_due() and self._folder is not None:
                        self._save(trainer, key, step)
        except Stopped:
            if self._folder is not None:
                self._save(trainer, key, step)
                yield Log(f"checkpoint saved at step {step} of {total}")
            raise

    def _step(
        self, trainer: Trainer, inputs: Tensor, labels: Tensor, step: int, total: int
    ) -> float:
        try:
            return trainer.step(inputs, labels, step / total)
        except BadInput as error:
            saved = self._folder is not None and (self._folder / CHECKPOINT).exists()
            kept = " (the last checkpoint is kept)" if saved else ""
            raise BadInput(f"step {step}: {error}{kept}") from None

    def _update(
        self, trainer: Trainer, pruner: Pruner, final: dict[str, float], step: int, planned: int
    ) -> Events:
        """Set the masks that the schedule wants before optimizer step `step`."""
        wanted = {p: self.plan.schedule.target(step, planned, s) for p, s in final.items()}
        if all(sparsity is None for sparsity in wanted.values()):
            return
        before = self.masks.layers
        layers = dict(before)
        if pruner.statistics.needs_data:
            pruner.statistics.renew()
            if not before:
                count = pruner.statistics.samples
                yield Log(f"scores are taken anew from {count} samples whenever masks change")
        for path, sparsity in wanted.items():
            if sparsity is not None:
                layers[path], weight = pruner.prune(path, sparsity)
                if weight is not None:
                    _put(self.model, trainer.module, path, weight)
        self.masks = pruner.with_vectors(layers)
        trainer.set_masks(self.masks.by_parameter(self.model.info))
        yield self._changed(step, before)

    def _resume(self, trainer: Trainer, pruner: Pruner, key: str) -> int | None:
        """Take up the checkpoint of this very run; return its step, None if it is of another."""
        path = self._folder / CHECKPOINT if self._folder else None
        if path is None or not path.exists():
            return 0
        saved = Checkpoint.load(path)
        if saved.key != key:
            return None
        trainer.module.load_state_dict(saved.module)
        layers = {name: mask.to(self._device) for name, mask in saved.layers.items()}
        self.masks = pruner.with_vectors(layers)
        trainer.set_masks(self.masks.by_parameter(self.model.info))
        trainer.optimizer.load_state_dict(saved.optimizer)
        torch.set_rng_state(saved.random)
        self._history = [(at, values) for at, values in saved.metrics]
        return saved.step

    def _save(self, trainer: Trainer, key: str, step: int) -> None:
        assert self._folder is not None
        Checkpoint(
            key=key,
            step=step,
            module=trainer.module.state_dict(),
            optimizer=trainer.optimizer.state_dict(),
            layers={path: mask.cpu() for path, mask in self.masks.layers.items()},
            random=torch.get_rng_state(),
            metrics=self._history,
        ).save(self._folder / CHECKPOINT)

    def _metric(self, step: int, values: dict[str, float]) -> Metric:
        self._history.append((step, values))
        return Metric(step, values)

    def _changed(self, step: int, before: dict[str, Tensor]) -> MaskChanged:
        now = self.masks.layers
        dropped = sum(int((before[p] & ~m).sum()) for p, m in now.items() if p in before)
        dropped += sum(int((~m).sum()) for p, m in now.items() if p not in before)
        regrown = sum(int((~before[p] & m).sum()) for p, m in now.items() if p in before)
        return MaskChanged(step, {p: 1 - self.masks.density(p) for p in now}, dropped, regrown)

    def _sparsity(self) -> float:
        zeros = sum(int((~mask).sum()) for mask in self.masks.layers.values())
        return zeros / max(1, sum(mask.numel() for mask in self.masks.layers.values()))

    def _report(
        self,
        model: Model,
        final: dict[str, float],
        digest: str,
        accuracies: tuple[float | None, float | None],
        steps: int,
        started: float,
    ) -> Report:
        layers = tuple(
            _layer_report(path, rule, final[path], self.masks.layers[path])
            for path, rule in self._rules.items()
        )
        state = self.masks.committed(model)
        zeros = sum(int((state[name] == 0).sum()) for name in _parameters(model))
        return Report(
            model=model.address,
            name=model.info.name,
            digest=digest,
            layers=layers,
            params=model.info.params,
            nonzeros=model.info.params - zeros,
            dense_bytes=model.info.bytes,
            compressed_bytes=compressed_bytes(model, self.masks, self._folder),
            accuracy_dense=accuracies[0],
            accuracy_pruned=accuracies[1],
            steps=steps,
            seconds=round(time.monotonic() - started, 3),
            machine=describe(),
            plan=self.plan.to_json(),
            notes=model.info.notes,
        )


def run(
    model: Model,
    plan: Plan,
    cancel: Control | None = None,
    *,
    folder: Path | None = None,
    device: str = "auto",
) -> Iterator[Event]:
    """Run `plan` on `model` and yield its events; see `Run` for the arguments and the outcome."""
    return Run(model, plan, control=cancel, folder=folder, device=device).events()


def _training_of(model: Model, plan: Plan) -> Training | None:
    """The training that the run will do, or None; raises BadInput where it cannot be done."""
    if not plan.schedule.trains and (plan.training is None or plan.training.epochs == 0):
        return None
    training = plan.training or Training()
    model.runnable()
    if training.data is None and model.info.data is None:
        raise BadInput(
            f"the plan trains ({plan.schedule.kind}) but names no data; "
            "add training: {data: …} to the plan or pass --data"
        )
    return replace(training, data=training.data or model.info.data)


def _data_of(model: Model, plan: Plan) -> Data | None:
    """The data to evaluate on: the plan's, else the model's own; None for weights alone."""
    asked = plan.training.data if plan.training else None
    if asked:
        model.runnable()
    address = asked or model.info.data
    return load_data(address) if address is not None and model.module is not None else None


def _title(plan: Plan, rules: dict[str, Rule]) -> str:
    patterns = list(dict.fromkeys(str(_word(rule)) for rule in rules.values()))
    return f"{plan.schedule.label} · {', '.join(patterns[:3])}{' …' if len(patterns) > 3 else ''}"


def _word(rule: Rule) -> str:
    word = rule.pattern.to_plan()
    name = word if isinstance(word, str) else word["kind"]
    if rule.pattern.fixed_sparsity is not None:
        return name
    return f"{name} {rule.sparsity:.0%}"


def _with_module(model: Model, module: nn.Module) -> Model:
    return replace(model, module=module, state=module.state_dict())


def _on_cpu(masks: Masks) -> Masks:
    layers = {path: mask.cpu() for path, mask in masks.layers.items()}
    return Masks(layers, {name: mask.cpu() for name, mask in masks.vectors.items()})


def _matrices(model: Model, module: nn.Module) -> Any:
    """W[out, in] by path, of the module in training."""
    parameters = dict(module.named_parameters(remove_duplicate=False))

    def matrix(path: str) -> Tensor:
        layer = model.info.layer(path)
        assert layer.gemm is not None
        return layer.gemm.view(parameters[layer.weight].detach())

    return matrix


@torch.no_grad()
def _put(model: Model, module: nn.Module, path: str, matrix: Tensor) -> None:
    """Write W[out, in] of a layer into the module."""
    layer = model.info.layer(path)
    assert layer.gemm is not None
    module.get_parameter(layer.weight).copy_(layer.gemm.store(matrix))


def _layer_report(path: str, rule: Rule, requested: float, mask: Tensor) -> LayerReport:
    zeros = mask.numel() - int(mask.sum())
    return LayerReport(path, _word_only(rule), requested, zeros / mask.numel(), mask.numel(), zeros)


def _word_only(rule: Rule) -> str:
    word = rule.pattern.to_plan()
    return word if isinstance(word, str) else str(word["kind"])


def _parameters(model: Model) -> list[str]:
    """Names of all parameters, tied ones once."""
    if model.module is not None:
        return [name for name, _ in model.module.named_parameters()]
    return [name for name in model.state if is_parameter(name)]


class _Clock:
    """Says when progress and a checkpoint are due, and how long the rest will take."""

    def __init__(self, step: int, total: int) -> None:
        self._first, self._total = step, total
        self._start = self._shown = time.monotonic()
        # The first one soon: a crash in the first seconds should not cost them either.
        self._saved = self._start - _SECONDS_BETWEEN_CHECKPOINTS + 1.0

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._shown < 0.1:
            return False
        self._shown = now
        return True

    def checkpoint_due(self) -> bool:
        now = time.monotonic()
        if now - self._saved < _SECONDS_BETWEEN_CHECKPOINTS:
            return False
        self._saved = now
        return True

    def left(self, step: int) -> float:
        spent = time.monotonic() - self._start
        return round(spent / max(1, step - self._first) * (self._total - step), 1)
