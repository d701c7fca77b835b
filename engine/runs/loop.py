"""The loop that every training shares: batches, checkpoints, measurements, and an early end."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..bitmasks import BitMask, PackedMasks
from ..control import Control, Stopped
from ..data import Data, Inputs
from ..data.evaluate import accuracy
from ..errors import BadInput, is_out_of_memory
from ..events import Event, Log, MaskChanged, Metric, Progress
from ..masks import Masks
from ..models.model import Model
from ..plan import Plan, Rule, Training
from ..schedules.driver import Driver, Layer
from ..topology import Topology
from .checkpoint import CHECKPOINT, Checkpoint
from .clock import Clock
from .training import Trainer

Events = Generator[Event, None, None]


@dataclass(frozen=True)
class Lesson:
    """What is trained, on what, and where it is kept.

    `taken` are masks of zeros that the model brought; `key` names the run in its checkpoint in
    `folder`, without which a run cannot be resumed; `dense` is the dense model's accuracy, None
    where all weights are drawn anew; `started` is when the run began, by `time.monotonic`.
    """

    model: Model
    plan: Plan
    training: Training
    data: Data
    device: torch.device
    control: Control
    folder: Path | None
    key: str
    dense: float | None
    taken: Mapping[str, Tensor]
    started: float


class Loop(ABC):
    """One training of `module` under the plan's schedule.

    `show` gets the masks whenever they change. After `events` has ended `masks` are final and
    `module` is in eval mode with its pruned weights at zero; `steps` were taken, `notes` are for
    the report. `final` has the sparsity that each layer is to end at, once `events` has begun.
    `history` has (step, values) in order, as the Metric events say them. `started` is when the run
    began, by `time.monotonic`, as if it had never been stopped.
    """

    module: nn.Module
    _dense_before: ClassVar[bool] = True
    """Whether all weights are there before the first masks."""

    def __init__(self, lesson: Lesson, show: Callable[[Topology], None]) -> None:
        self._lesson = lesson
        self._show = show
        self._changes = -1
        self._topology: Topology | None = None
        self.masks = Masks()
        self.final: dict[str, float] = {}
        self.steps = 0
        self.notes: list[str] = []
        self.history: list[tuple[int, dict[str, float]]] = []
        self.started = lesson.started

    @abstractmethod
    def events(self) -> Events:
        """Train; ends when it is done, raises Stopped when the person wants that."""

    @abstractmethod
    def _update(self, trainer: Trainer, driver: Driver, step: int) -> Events:
        """Set the masks that the schedule wants before optimizer step `step`."""

    @abstractmethod
    def _resume(self, saved: Checkpoint, trainer: Trainer, driver: Driver) -> None:
        """Take up what the checkpoint has of module, driver, optimizer and masks."""

    @abstractmethod
    def _begin(self, trainer: Trainer, driver: Driver) -> Events:
        """What comes before step 0 where no checkpoint is taken up."""

    def _saved_masks(self) -> dict[str, Tensor]:
        """The bool masks [out, in] by path that a checkpoint needs to go on."""
        return {}

    def _scheduled(self, rules: Mapping[str, Rule]) -> dict[str, Layer]:
        """What the schedule is told of the layers, by path, once `final` is known."""
        layers = {}
        for path, sparsity in self.final.items():
            layer = self._lesson.model.info.layer(path)
            assert layer.gemm is not None
            layers[path] = Layer(rules[path].pattern, sparsity, layer.gemm, layer.weight)
        return layers

    def _train(self, trainer: Trainer, driver: Driver, planned: int, per_epoch: int) -> Events:
        """All of it, from step 0 or from the checkpoint on."""
        total = yield from self._total(planned, per_epoch)
        step = yield from self._start(trainer, driver, total)
        yield from self._steps(trainer, driver, step, planned, total, per_epoch)

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

    def _start(self, trainer: Trainer, driver: Driver, total: int) -> Generator[Event, None, int]:
        """Take up the checkpoint of this very run, or begin; the step to go on from."""
        path = self._lesson.folder / CHECKPOINT if self._lesson.folder else None
        saved = Checkpoint.of_run(path, self._lesson.key) if path is not None else None
        if saved is not None:
            self._take_up(saved, trainer, driver)
            rows = [row for row in self.history if "loss" in row[1]]
            reached = (
                f"; {rows[-1][1]['accuracy']:.1%} accuracy at step {rows[-1][0]}" if rows else ""
            )
            yield Log(f"resumed from the checkpoint at step {saved.step} of {total}{reached}")
            before = PackedMasks() if self._dense_before else self.masks.layers
            yield changed(saved.step, before, self.masks)
            yield from (Metric(at, values, past=True) for at, values in rows)
            return saved.step
        yield from self._begin(trainer, driver)
        return 0

    def _take_up(self, saved: Checkpoint, trainer: Trainer, driver: Driver) -> None:
        try:
            self._resume(saved, trainer, driver)
        except (RuntimeError, KeyError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).strip().split("\n")[-1].strip()
            raise BadInput(
                f"{self._lesson.folder}: the checkpoint does not fit the model ({reason}); delete "
                f"{CHECKPOINT} there to start anew"
            ) from None
        torch.set_rng_state(saved.random)
        self.history = [(at, values) for at, values in saved.metrics]
        self.started -= saved.seconds
        self._changes = saved.changes
        self._topology = Topology(self.masks, self.masks.layers, saved.step, max(0, self._changes))
        self._show(self._topology)

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
                    loss = self._step(trainer, driver, inputs, labels, step, total)
                    step += 1
                    if clock.due():
                        text = f"epoch {epoch + 1} of {-(-total // per_epoch)}"
                        yield Progress(step, total, text, clock.left(step))
                    if step % per_epoch == 0 or step == total:
                        reached = yield from self._measure(trainer, driver, step, loss)
                        if step > last and self._close_enough(reached):
                            yield Log(
                                f"stopped at step {step} of {total}: {reached:.1%} is within "
                                f"{lesson.training.within:.1%} of the dense {lesson.dense or 0:.1%}"
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
        self,
        trainer: Trainer,
        driver: Driver,
        inputs: Inputs,
        labels: Tensor,
        step: int,
        total: int,
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

    def _replace_masks(self, masks: Masks, step: int) -> MaskChanged:
        """Make these the masks, show them, and count what came and went."""
        before, self.masks = self.masks.layers, masks
        change = changed(step, before, masks)
        if self._topology is None or change.dropped or change.regrown:
            self._changes += 1
            self._topology = Topology(masks, before, step, self._changes)
        else:  # what changed last is still to be seen
            self._topology = replace(self._topology, masks=masks)
        self._show(self._topology)
        churn = self._churn()
        churn["dropped"] += change.dropped
        churn["regrown"] += change.regrown
        self.history.append((step, churn))
        return change

    def _churn(self) -> dict[str, float]:
        """Weights dropped and regrown since the last measurement; taken off the history.

        Until there is one they stand there by themselves, and so in a checkpoint too.
        """
        if self.history and "loss" not in self.history[-1][1]:
            return self.history.pop()[1]
        return {"dropped": 0, "regrown": 0}

    def _close_enough(self, reached: float) -> bool:
        within, dense = self._lesson.training.within, self._lesson.dense
        return within > 0 and dense is not None and reached >= dense - within

    def _save(self, trainer: Trainer, driver: Driver, step: int) -> bool:
        if self._lesson.folder is None or not _finite(self.module):
            return False
        Checkpoint(
            key=self._lesson.key,
            step=step,
            module=self.module.state_dict(),
            optimizer=trainer.state(),
            driver=driver.state(),
            layers=self._saved_masks(),
            orders=self.masks.orders,
            random=torch.get_rng_state(),
            metrics=self.history,
            changes=self._changes,
            model=self._lesson.model.address,
            seconds=time.monotonic() - self.started,
        ).save(self._lesson.folder / CHECKPOINT)
        return True


def _finite(module: nn.Module) -> bool:
    """Whether no parameter holds NaN or infinity: else the checkpoint before is the better one."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters())


def changed(step: int, before: PackedMasks, masks: Masks) -> MaskChanged:
    """What changed between masks by path and those of now."""
    dropped = regrown = 0
    for path, mask in masks.layers.packed.items():
        old: BitMask | None = before.packed.get(path)
        if old is None:
            dropped += mask.numel - mask.kept
        else:
            both = (old & mask).kept
            dropped += old.kept - both
            regrown += mask.kept - both
    return MaskChanged(step, {p: 1 - masks.density(p) for p in masks.layers}, dropped, regrown)
