"""What a schedule does in one run, step by step: the part of it that has state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ..gemm import Gemm
from ..patterns import Pattern

if TYPE_CHECKING:
    from torch import Tensor, nn

Matrices = dict[str, "Tensor"]
"""Tensors [out, in] by layer path."""


@dataclass(frozen=True)
class Layer:
    """One pruned layer: its pattern, the sparsity to end at, its view, its parameter's name."""

    pattern: Pattern
    sparsity: float
    gemm: Gemm
    weight: str


@dataclass(frozen=True)
class Course:
    """What a driver sees of its run.

    `layers` are the pruned layers by path, in model order; `module` is the one in training, on the
    run's device. `steps` optimizer steps are planned. `prune` makes masks at the sparsities given
    by path, by the rules' criteria and the weights of now, which it may update; `recover` starts
    the optimizer anew, without momentum. `taken` are bool [out, in] masks, False where a weight was
    zero already and stays so.
    """

    layers: Mapping[str, Layer]
    module: nn.Module
    steps: int
    seed: int
    prune: Callable[[Mapping[str, float]], Matrices]
    recover: Callable[[], None]
    taken: Mapping[str, Tensor]

    def parameter(self, path: str) -> nn.Parameter:
        """The stored weight of a layer."""
        return self.module.get_parameter(self.layers[path].weight)

    def view(self, path: str) -> Tensor:
        """W[out, in] of a layer, differentiable."""
        return self.layers[path].gemm.view(self.parameter(path))

    def matrix(self, path: str) -> Tensor:
        """W[out, in] of a layer as it is now, detached."""
        return self.view(path).detach()

    def mask(self, path: str, scores: Tensor, sparsity: float | None = None) -> Tensor:
        """The bool [out, in] mask that keeps the best of `scores` [out, in] by the pattern.

        Zeros that were taken over come last, so that they are among what goes.
        """
        layer = self.layers[path]
        share = layer.sparsity if sparsity is None else sparsity
        if path in self.taken:
            taken = self.taken[path].to(scores.device)
            scores = (scores - scores.min()) * taken - (~taken).to(scores.dtype)
        return layer.pattern.mask(scores, share, layer.gemm)


class Steered(Protocol):
    """What a driver asks of its schedule, whatever else its own kind has."""

    frozen: ClassVar[bool]

    def target(self, step: int, total: int, final: float) -> float | None:
        """See `Schedule.target`."""


class Driver:
    """Steers masks, and what is learned beside the weights, through one training.

    The base sets masks whenever `Schedule.target` names a sparsity. A method of its own overrides
    what it needs. All tensors lie on the device of ``course.module``. A driver must be able to go
    on from `state` to the same bits, so that what is random comes from a generator of its own.
    """

    def __init__(self, schedule: Steered, course: Course) -> None:
        self.schedule = schedule
        self.course = course

    def begin(self) -> None:
        """Called once before step 0, and not when a run is taken up again."""

    def masks(self, step: int) -> Matrices | None:
        """Masks by path to set before optimizer step `step` (0 … last_step); None: as they are.

        Called once for every step, in order. May write new weights into the module.
        """
        wanted = {}
        for path, layer in self.course.layers.items():
            sparsity = self.schedule.target(step, self.course.steps, layer.sparsity)
            if sparsity is not None:
                wanted[path] = sparsity
        return self.course.prune(wanted) if wanted else None

    def holds(self, step: int) -> bool:
        """Whether pruned weights are zero from `step` on, with gradient and momentum.

        Where not, masks are only shown, and `weights` says what the model computes with.
        """
        return True

    def learned(self) -> list[Tensor]:
        """Tensors with gradients that are trained beside the weights."""
        return []

    @property
    def rate(self) -> float:
        """The learning rate of what is `learned`, by Adam."""
        return 0.01

    def weights(self, *, training: bool) -> Matrices:
        """W[out, in] to compute with instead of the module's own, by path; differentiable.

        Empty: the module's own weights. Not `training`: as the finished model would compute.
        """
        return {}

    def penalty(self) -> Tensor | None:
        """What is added to the loss, a scalar."""
        return None

    def wants_gradients(self, step: int) -> bool:
        """Whether `observe` is to see the gradients of optimizer step `step`."""
        return False

    def observe(self, step: int, gradients: Matrices) -> None:
        """See the gradients [out, in] by path by the weights that were computed with, unmasked."""

    def progress(self, step: int, total: int) -> float:
        """The share of the learning rate's course that lies behind at `step`, in [0, 1]."""
        return step / total

    def numbers(self) -> dict[str, float]:
        """What is worth a curve beside loss and accuracy, such as a temperature."""
        return {}

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on: tensors and plain values."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
