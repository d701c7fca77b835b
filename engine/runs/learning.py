"""Training under a schedule: the part of a run that takes optimizer steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..bitmasks import PackedMasks
from ..control import Control, Stopped
from ..data import Data, Inputs
from ..data.evaluate import accuracy
from ..errors import BadInput
from ..events import Event, Log, MaskChanged, Metric, Progress
from ..masks import Masks
from ..models.model import Model
from ..plan import Plan, Training
from ..schedules.driver import Course, Driver, Layer
from .checkpoint import CHECKPOINT, Checkpoint
from .clock import Clock
from .fresh import draw_anew
from .module_weights import matrices, put
from .pruner import Pruner
from .training import Trainer, teacher_of

Events = Generator[Event, None, None]


@dataclass(frozen=True)
class Lesson:
    """What is trained, on what, and where it is kept.

    `taken` are masks of zeros that the model brought; `key` names the run in its checkpoint in
    `folder`, without which a run cannot be resumed; `dense` is the dense model's accuracy.
    """

    model: Model
    plan: Plan
    training: Training
    data: Data
    device: torch.device
    control: Control
    folder: Path | None
    key: str
    dense: float
    taken: Mapping[str, Tensor]


class Learning:
    """One training of a copy of the model, `module`, under the plan's schedule.

    `pruner_of(module)` makes masks from the module's weights of now. `show` gets the masks whenever
    they change. After `events` has ended `masks` are final and `module` is in eval mode with its
    pruned weights at zero; `steps` were taken, `notes` are for the report. `final` has the sparsity
    that each layer is to end at, once `events` has begun. `history` has (step, values) in order, as
    the Metric events say them.
    """

    def __init__(
        self,
        lesson: Lesson,
        pruner_of: Callable[[nn.Module], Pruner],
        show: Callable[[Masks], None],
    ) -> None:
        self._lesson = lesson
        self._show = show
        self.masks = Masks()
        self.final: dict[str, float] = {}
        self.steps = 0
        self.notes: list[str] = []
        self.history: list[tuple[int, dict[str, float]]] = []
        self.module = copy.deepcopy(lesson.model.runnable())
        self._pruner = pruner_of(self.module)

    def events(self) -> Events:
        """Train; ends when it is done, raises Stopped when the person wants that."""
        lesson, schedule = self._lesson, self._lesson.plan.schedule
        torch.manual_seed(lesson.plan.seed)
        if schedule.draws_anew:
            yield from self._fresh()
        teacher = teacher_of(lesson.model, lesson.training)
        trainer = Trainer(self.module, lesson.training, lesson.device, teacher)
        yield Progress(0, 0, f"sharing out the budget ({lesson.plan.allocation.kind})")
        self.final = self._pruner.sparsities()
        per_epoch = lesson.data.steps("train", lesson.training.batch)
        planned = lesson.training.epochs * per_epoch
        total = yield from self._total(planned, per_epoch)
        driver = schedule.driver(self._course(trainer, planned))
        step = yield from self._start(trainer, driver, total)
        yield from self._steps(trainer, driver, step, planned, total, per_epoch)
        self.module.eval()

    def _fresh(self) -> Events:
        left = draw_anew(self.module, self._lesson.plan.seed)
        more = f"; {', '.join(left[:3])} kept their values" if left else ""
        yield Log(f"all weights are drawn anew with seed {self._lesson.plan.seed}{more}")

    def _total(self, planned: int, per_epoch: int) -> Generator[Event, None, int]:
        """The optimizer steps that the training takes."""
        schedule, epochs = self._lesson.plan.schedule, self._lesson.training.epochs
        total = schedule.steps(planned, per_epoch)
        if total > planned:
            yield Log(
                f"{schedule.kind} has its final masks at step {schedule.last_step(planned)}; "
                f"{epochs} epochs are {planned} steps, too few to recover after it: training goes "
                f"on to step {total}"
            )
        return total

    def _course(self, trainer: Trainer, planned: int) -> Course:
        info, rules = self._lesson.model.info, self._pruner.rules
        layers = {}
        for path, sparsity in self.final.items():
            layer = info.layer(path)
            assert layer.gemm is not None
            layers[path] = Layer(rules[path].pattern, sparsity, layer.gemm, layer.weight)
        lesson = self._lesson
        return Course(
            layers=layers,
            module=self.module,
            steps=planned,
            seed=lesson.plan.seed,
            prune=self._prune,
            recover=trainer.recover,
            taken=lesson.taken,
        )

    def _prune(self, wanted: Mapping[str, float]) -> dict[str, Tensor]:
        """Masks by the rules' criteria and the weights of now."""
        self._pruner.statistics.renew()
        model, masks, before = self._lesson.model, {}, {}
        try:
            for path, sparsity in self._pruner.decided(wanted).items():
                mask, weight = self._pruner.prune(path, sparsity)
                masks[path] = mask.unpack()
                if weight is not None:
                    before[path] = matrices(model, self.module)(path).clone()
                    put(model, self.module, path, weight)
        except Stopped:
            # The checkpoint of a run that stops here has the weights from before the step.
            for path, weight in before.items():
                put(model, self.module, path, weight)
            raise
        return masks

    def _start(self, trainer: Trainer, driver: Driver, total: int) -> Generator[Event, None, int]:
        """Take up the checkpoint of this very run, or begin; the step to go on from."""
        path = self._lesson.folder / CHECKPOINT if self._lesson.folder else None
        saved = Checkpoint.load(path) if path is not None and path.exists() else None
        if saved is not None and saved.key == self._lesson.key:
            self._resume(saved, trainer, driver)
            yield Log(f"resumed from the checkpoint at step {saved.step} of {total}")
            yield changed(saved.step, PackedMasks(), self.masks)
            yield from (Metric(at, values) for at, values in self.history if "loss" in values)
            return saved.step
        if saved is not None:
            yield Log("the checkpoint in the folder is of another run; this one starts anew")
        driver.begin()
        trainer.follow(driver)
        if self._lesson.taken:
            yield self._hold(trainer, {}, 0, holds=driver.holds(0))
        if self._pruner.statistics.needs_data:
            count = self._pruner.statistics.samples
            yield Log(f"scores are taken anew from {count} samples whenever masks change")
        return 0

    def _steps(
        self, trainer: Trainer, driver: Driver, step: int, planned: int, total: int, per_epoch: int
    ) -> Events:
        lesson = self._lesson
        last = lesson.plan.schedule.last_step(planned)
        clock = Clock(step, total)
        loss = float("nan")
        try:
            while True:
                epoch, first = divmod(step, per_epoch)
                for inputs, labels in lesson.data.batches(
                    "train",
                    lesson.training.batch,
                    seed=lesson.plan.seed,
                    epoch=epoch,
                    shuffle=True,
                    augment=True,
                    first=first,
                ):
                    lesson.control.check()
                    yield from self._update(trainer, driver, step)
                    if step == total:
                        self.steps = total
                        return
                    loss = self._step(trainer, inputs, labels, step, total)
                    step += 1
                    if clock.due():
                        text = f"epoch {epoch + 1} of {-(-total // per_epoch)}"
                        yield Progress(step, total, text, clock.left(step))
                    if step % per_epoch == 0 or step == total:
                        reached = yield from self._measure(trainer, driver, step, loss)
                        if step > last and self._close_enough(reached):
                            yield Log(
                                f"stopped at step {step} of {total}: {reached:.1%} is within "
                                f"{lesson.training.within:.1%} of the dense {lesson.dense:.1%}"
                            )
                            self.steps = step
                            return
                    if clock.checkpoint_due():
                        self._save(trainer, driver, step)
        except Stopped:
            if self._save(trainer, driver, step):
                yield Log(f"checkpoint saved at step {step} of {total}")
            raise

    def _step(
        self, trainer: Trainer, inputs: Inputs, labels: Tensor, step: int, total: int
    ) -> float:
        try:
            return trainer.step(inputs, labels, step, total)
        except BadInput as error:
            folder = self._lesson.folder
            saved = folder is not None and (folder / CHECKPOINT).exists()
            kept = " (the last checkpoint is kept)" if saved else ""
            raise BadInput(f"step {step}: {error}{kept}") from None

    def _measure(
        self, trainer: Trainer, driver: Driver, step: int, loss: float
    ) -> Generator[Event, None, float]:
        with trainer.finished() as module:
            reached = accuracy(module, self._lesson.data, self._lesson.device)
        now = {"loss": loss, "accuracy": reached, "sparsity": self.masks.sparsity}
        self.history.append((step, self._churn() | now | driver.numbers()))
        yield Metric(*self.history[-1])
        return reached

    def _churn(self) -> dict[str, float]:
        """Weights dropped and regrown since the last measurement; taken off the history.

        Until there is one they stand there by themselves, and so in a checkpoint too.
        """
        if self.history and "loss" not in self.history[-1][1]:
            return self.history.pop()[1]
        return {"dropped": 0, "regrown": 0}

    def _close_enough(self, reached: float) -> bool:
        within = self._lesson.training.within
        return within > 0 and reached >= self._lesson.dense - within

    def _update(self, trainer: Trainer, driver: Driver, step: int) -> Events:
        """Set the masks that the schedule wants before optimizer step `step`."""
        masks = driver.masks(step)
        if masks is None:
            return
        notes = self._pruner.orders.take_notes()
        self.notes.extend(notes)
        yield from map(Log, notes)
        yield self._hold(trainer, masks, step, holds=driver.holds(step))

    def _hold(
        self, trainer: Trainer, masks: Mapping[str, Tensor], step: int, *, holds: bool
    ) -> MaskChanged:
        taken = {path: mask.to(self._lesson.device) for path, mask in self._lesson.taken.items()}
        new = {p: mask & taken[p] if p in taken else mask for p, mask in masks.items()}
        before = self.masks.layers
        self.masks = self._pruner.with_vectors(PackedMasks(taken, before, new))
        held = self.masks if holds else Masks(taken)
        trainer.set_masks(held.by_parameter(self._lesson.model.info))
        self._show(self.masks)
        change = changed(step, before, self.masks)
        churn = self._churn()
        churn["dropped"] += change.dropped
        churn["regrown"] += change.regrown
        self.history.append((step, churn))
        return change

    def _resume(self, saved: Checkpoint, trainer: Trainer, driver: Driver) -> None:
        device = self._lesson.device
        self.module.load_state_dict(saved.module)
        self._pruner.orders.found.update(saved.orders)
        layers = {name: mask.to(device) for name, mask in saved.layers.items()}
        driver.load(on_device(saved.driver, device))
        trainer.follow(driver)
        self.masks = self._pruner.with_vectors(layers)
        # The masks of step `saved.step` itself are still to come.
        held = self.masks if driver.holds(saved.step - 1) else Masks(self._lesson.taken)
        trainer.set_masks(held.by_parameter(self._lesson.model.info))
        trainer.load(saved.optimizer)
        torch.set_rng_state(saved.random)
        self.history = [(at, values) for at, values in saved.metrics]
        self._show(self.masks)

    def _save(self, trainer: Trainer, driver: Driver, step: int) -> bool:
        if self._lesson.folder is None or not _finite(self.module):
            return False
        Checkpoint(
            key=self._lesson.key,
            step=step,
            module=self.module.state_dict(),
            optimizer=trainer.state(),
            driver=driver.state(),
            layers={path: mask.cpu() for path, mask in self.masks.layers.items()},
            orders=self.masks.orders,
            random=torch.get_rng_state(),
            metrics=self.history,
        ).save(self._lesson.folder / CHECKPOINT)
        return True


def _finite(module: nn.Module) -> bool:
    """Whether no parameter holds NaN or infinity: else the checkpoint before is the better one."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters())


def changed(step: int, before: PackedMasks, masks: Masks) -> MaskChanged:
    """What changed between masks by path and those of now."""
    dropped = regrown = 0
    for path, mask in masks.layers.packed.items():
        old = before.packed.get(path)
        if old is None:
            dropped += mask.numel - mask.kept
        else:
            both = (old & mask).kept
            dropped += old.kept - both
            regrown += mask.kept - both
    return MaskChanged(step, {p: 1 - masks.density(p) for p in masks.layers}, dropped, regrown)


def on_device(value: Any, device: torch.device) -> Any:
    """Tensors anywhere in nested mappings, on `device`; random states stay where they are."""
    if isinstance(value, Tensor):
        return value if value.dtype == torch.uint8 else value.to(device)
    if isinstance(value, dict):
        return {key: on_device(item, device) for key, item in value.items()}
    return value
