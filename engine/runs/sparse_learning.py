"""Training from scratch with the plan's layers in CSR (S3): nothing dense is ever made of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...kernels.growing.start import fresh
from ...kernels.modules.evolving import Evolving, evolving
from ..data.evaluate import check_fits
from ..dependencies import trace
from ..errors import BadInput
from ..events import Log, Progress
from ..masks import Masks
from ..models.model import Model
from ..schedules.driver import Course, Driver
from ..schedules.sparse_training import SparseTraining
from ..topology import Topology
from .checkpoint import Checkpoint
from .dead import Neurons
from .evolution import Evolution, weights_at
from .fresh import draw_anew
from .learning import on_device
from .loop import Events, Lesson, Loop
from .module_weights import put
from .pruner import Pruner
from .training import Trainer, teacher_of


class SparseLearning(Loop):
    """One training of the model's architecture from fresh sparse weights; see `Loop`.

    `pruner` shares out the budget. `module` has its layers in CSR while it is trained; afterwards
    it is an ordinary module again, with zeros where there are no weights.
    """

    _dense_before: ClassVar[bool] = False

    def __init__(self, lesson: Lesson, pruner: Pruner, show: Callable[[Topology], None]) -> None:
        super().__init__(lesson, show)
        self._pruner = pruner
        self._layers: dict[str, Evolving] = {}

    def events(self) -> Events:
        lesson, schedule = self._lesson, self._lesson.plan.schedule
        assert isinstance(schedule, SparseTraining)
        torch.manual_seed(lesson.plan.seed)
        yield Progress(0, 0, f"sharing out the budget ({lesson.plan.allocation.kind})")
        self.final = self._pruner.sparsities()
        per_epoch = lesson.data.steps("train", lesson.training.batch)
        planned = lesson.training.epochs * per_epoch
        yield from self._fresh(schedule, planned)
        teacher = teacher_of(lesson.model, lesson.training)
        trainer = Trainer(self.module, lesson.training, lesson.device, teacher)
        course = self._course(trainer, planned)
        driver = Evolution(schedule, course, self._layers, trainer, self._neurons(schedule))
        yield from self._train(trainer, driver, planned, per_epoch)
        self.module = _dense(lesson.model, self.module, self._layers)

    def _fresh(self, schedule: SparseTraining, planned: int) -> Events:
        """Make the module with all its weights drawn anew."""
        model, seed = self._lesson.model, self._lesson.plan.seed
        generator = torch.Generator().manual_seed(seed)
        for path, final in self.final.items():
            sparsity = schedule.target(0, planned, final)
            assert sparsity is not None
            self._layers[path] = _first(model, path, sparsity, generator)
        self.module = _with_layers(model, self._layers)
        check_fits(self.module, self._lesson.data)
        own = {
            f"{_name(model, path)}.{name}"
            for path, layer in self._layers.items()
            for name, _ in layer.named_parameters()
        }
        left = [name for name in draw_anew(self.module, seed) if name not in own]
        more = f"; {', '.join(left[:3])} kept their values" if left else ""
        yield Log(f"all weights are drawn anew with seed {seed}{more}")

    def _neurons(self, schedule: SparseTraining) -> Neurons | None:
        if not schedule.cleanup:
            return None
        channels = trace(self._lesson.model)
        if channels.problem is not None:
            return None
        return Neurons(channels, list(self._layers), self._lesson.device)

    def _course(self, trainer: Trainer, planned: int) -> Course:
        return Course(
            layers=self._scheduled(self._pruner.rules),
            module=self.module,
            steps=planned,
            seed=self._lesson.plan.seed,
            prune=_never,
            recover=trainer.recover,
            taken={},
        )

    def _begin(self, trainer: Trainer, driver: Driver) -> Events:
        assert isinstance(driver, Evolution)
        driver.begin()
        trainer.follow(driver)
        self.masks = Masks(driver.topology())
        yield from ()

    def _update(self, trainer: Trainer, driver: Driver, step: int) -> Events:
        masks = driver.masks(step)
        if masks is not None:
            yield self._replace_masks(Masks(masks), step)

    def _step(
        self, trainer: Trainer, driver: Driver, inputs: Any, labels: Tensor, step: int, total: int
    ) -> float:
        assert isinstance(driver, Evolution)
        with driver.watching(step):
            return super()._step(trainer, driver, inputs, labels, step, total)

    def _resume(self, saved: Checkpoint, trainer: Trainer, driver: Driver) -> None:
        assert isinstance(driver, Evolution)
        self.module.load_state_dict(saved.module)
        driver.load(on_device(saved.driver, self._lesson.device))
        trainer.follow(driver)
        trainer.load(saved.optimizer)
        self.masks = Masks(driver.topology())


def _first(model: Model, path: str, sparsity: float, generator: torch.Generator) -> Evolving:
    layer = model.info.layer(path)
    assert layer.gemm is not None
    out, ins = layer.gemm.shape
    count = weights_at(sparsity, (out, ins))
    if count < out:
        raise BadInput(
            f"{path} at {sparsity:.2%} has {count} weights for {out} outputs, so that some would "
            f"read nothing; at most {1 - 1 / ins:.2%} gives each of them an input"
        )
    matrix = fresh((out, ins), count, generator, dtype=model.weight(path).dtype)
    module = model.runnable().get_submodule(_name(model, path))
    return evolving(module, matrix)


def _name(model: Model, path: str) -> str:
    """The name of the module that holds the layer's weight."""
    return model.info.layer(path).weight.rpartition(".")[0]


def _with_layers(model: Model, layers: Mapping[str, Evolving]) -> nn.Module:
    """A copy of the model's module with these layers; what they replace is not copied."""
    module = model.runnable()
    there: dict[int, Any] = {
        id(module.get_submodule(_name(model, path))): layer for path, layer in layers.items()
    }
    made: nn.Module = copy.deepcopy(module, there)
    return made


@torch.no_grad()
def _dense(model: Model, trained: nn.Module, layers: Mapping[str, Evolving]) -> nn.Module:
    """A copy of the model's module, in eval mode, with the weights that were trained."""
    module = copy.deepcopy(model.runnable()).eval()
    module.load_state_dict(
        {
            name: value
            for name, value in trained.state_dict().items()
            if name in module.state_dict()
        },
        strict=False,
    )
    for path, layer in layers.items():
        put(model, module, path, layer.matrix.to_dense())
    return module


def _never(wanted: Mapping[str, float]) -> dict[str, Tensor]:
    raise RuntimeError("a topology that evolves is not chosen by a criterion")
