"""Training under a schedule whose masks lie over dense weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..bitmasks import PackedMasks
from ..control import Stopped
from ..events import Log, MaskChanged, Progress
from ..masks import Masks
from ..schedules.driver import Course, Driver
from ..topology import Topology
from .checkpoint import Checkpoint
from .fresh import draw_anew
from .loop import Events, Lesson, Loop
from .module_weights import matrices, put
from .pruner import Pruner
from .training import Trainer, teacher_of


class Learning(Loop):
    """One training of a copy of the model; see `Loop`.

    `pruner_of(module)` makes masks from the module's weights of now.
    """

    def __init__(
        self,
        lesson: Lesson,
        pruner_of: Callable[[nn.Module], Pruner],
        show: Callable[[Topology], None],
    ) -> None:
        super().__init__(lesson, show)
        self.module = copy.deepcopy(lesson.model.runnable())
        self._pruner = pruner_of(self.module)

    def events(self) -> Events:
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
        driver = schedule.driver(self._course(trainer, planned))
        yield from self._train(trainer, driver, planned, per_epoch)
        self.module.eval()

    def _fresh(self) -> Events:
        left = draw_anew(self.module, self._lesson.plan.seed)
        more = f"; {', '.join(left[:3])} kept their values" if left else ""
        yield Log(f"all weights are drawn anew with seed {self._lesson.plan.seed}{more}")

    def _course(self, trainer: Trainer, planned: int) -> Course:
        lesson = self._lesson
        return Course(
            layers=self._scheduled(self._pruner.rules),
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

    def _begin(self, trainer: Trainer, driver: Driver) -> Events:
        driver.begin()
        trainer.follow(driver)
        if self._lesson.taken:
            yield self._hold(trainer, {}, 0, holds=driver.holds(0))
        if self._pruner.statistics.needs_data:
            count = self._pruner.statistics.samples
            yield Log(f"scores are taken anew from {count} samples whenever masks change")

    def _update(self, trainer: Trainer, driver: Driver, step: int) -> Events:
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
        made = self._pruner.with_vectors(PackedMasks(taken, self.masks.layers, new))
        held = made if holds else Masks(taken)
        trainer.set_masks(held.by_parameter(self._lesson.model.info))
        return self._replace_masks(made, step)

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

    def _saved_masks(self) -> dict[str, Tensor]:
        return {path: mask.cpu() for path, mask in self.masks.layers.items()}


def on_device(value: Any, device: torch.device) -> Any:
    """Tensors anywhere in nested mappings, on `device`; random states stay where they are."""
    if isinstance(value, Tensor):
        return value if value.dtype == torch.uint8 else value.to(device)
    if isinstance(value, dict):
        return {key: on_device(item, device) for key, item in value.items()}
    return value
