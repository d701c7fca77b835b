"""Movement pruning (S0; Sanh et al. 2020): weights that training moves towards zero go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import BadInput
from ..info import LayerInfo
from ..patterns import Pattern
from ..settings import setting
from .base import SCHEDULES, Schedule
from .curve import stepped, three_quarters
from .driver import Course, Driver, Matrices
from .fits import not_free, not_ranked
from .pressure import Pressure

if TYPE_CHECKING:
    from torch import Tensor

_ADAM = 10
"""Steps of Adam that count as one of mean movement: so long its momentum carries noise on."""


@SCHEDULES.register
@dataclass(frozen=True)
class Movement(Schedule):
    """Scores are -w·∂L/∂w, summed while training; what moves towards zero goes, large or small.

    Hard: the best scores at a sparsity that rises along a cubic curve. Soft: what lies above a
    threshold, with a pull on the scores that makes the sparsity follow the same curve. The rule's
    criterion is not used. Pruned weights keep their values until the end, and may come back.
    """

    kind: ClassVar[str] = "movement"
    label: ClassVar[str] = "Movement"
    rank: ClassVar[int] = 40
    trains: ClassVar[bool] = True
    form: str = setting("hard", choices=("hard", "soft"), help="How scores become masks.")
    begin: int | None = setting(
        None, low=0, help="Step of the first pruning; empty: after a tenth of the training."
    )
    end: int | None = setting(None, low=1, help="Step of the final masks; empty: at 3/4.")
    every: int = setting(5, low=1, help="Steps between two choices of masks.")
    magnitude: float = setting(
        3.0,
        low=0.0,
        high=1e6,
        label="Head start",
        help="Head start of a weight of mean size, in steps of mean movement; 0: movement alone, "
        "as published.",
    )
    rate: float = setting(
        0.02,
        low=1e-9,
        high=10.0,
        label="Rate of scores",
        help="Learning rate of soft scores, by Adam.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.begin is not None and self.end is not None and self.end <= self.begin:
            raise BadInput(f"movement: end must come after begin ({self.begin}), not at {self.end}")

    def first_step(self, total: int) -> int:
        """The step of the first pruning."""
        return min(self.last_step(total) - 1, total // 10) if self.begin is None else self.begin

    def last_step(self, total: int) -> int:
        return three_quarters(self.end, self.begin or 0, total)

    def target(self, step: int, total: int, final: float) -> float | None:
        return stepped(step, self.first_step(total), self.last_step(total), self.every, 0.0, final)

    @property
    def course_words(self) -> str:
        soft = self.form == "soft"
        return "learned, steered along this curve" if soft else super().course_words

    def misfit(self, layer: LayerInfo, pattern: Pattern) -> str | None:
        if self.form == "soft":
            return not_free("movement (soft)", pattern)
        return not_ranked(self.kind, pattern)

    def driver(self, course: Course) -> Driver:
        return _Soft(self, course) if self.form == "soft" else _Hard(self, course)


class _Scored(Driver):
    """Computes with W under masks that do not touch W itself."""

    schedule: Movement

    def __init__(self, schedule: Movement, course: Course) -> None:
        super().__init__(schedule, course)
        self._end = schedule.last_step(course.steps)
        self._masks: Matrices = {}
        self._scores: Matrices = {}

    def begin(self) -> None:
        import torch

        for path in self.course.layers:
            sizes = self.course.matrix(path).float().abs()
            self._scores[path] = self.schedule.magnitude * sizes / sizes.mean().clamp_min(1e-30)
            self._masks[path] = torch.ones_like(sizes, dtype=torch.bool)

    def holds(self, step: int) -> bool:
        return step >= self._end

    def masks(self, step: int) -> Matrices | None:
        chosen: Matrices = {}
        for path, layer in self.course.layers.items():
            sparsity = self.schedule.target(step, self.course.steps, layer.sparsity)
            if sparsity is not None:
                chosen[path] = self.choose(path, sparsity, step)
        self._masks |= chosen
        if step >= self._end:
            self._scores = {}
        return chosen or None

    def choose(self, path: str, sparsity: float, step: int) -> Tensor:
        """The mask of a layer that is to have about `sparsity` at `step`, exactly at the last."""
        return self.course.mask(path, self._scores[path], sparsity)

    def weights(self, *, training: bool) -> Matrices:
        if not self._scores:
            return {}
        return {path: self.course.view(path) * mask for path, mask in self._masks.items()}

    def state(self) -> dict[str, Any]:
        scores = {path: score.detach() for path, score in self._scores.items()}
        return {"scores": scores, "masks": self._masks}

    def load(self, state: dict[str, Any]) -> None:
        self._scores, self._masks = state["scores"], state["masks"]


class _Hard(_Scored):
    """The straight-through gradient of a score is w·∂L/∂w, so the scores are its negative sum.

    Every step counts alike, whatever its loss: the movement of a layer is divided by its root mean
    square. Otherwise the few steps after a pruning, when the loss is up, would say it all.
    """

    def wants_gradients(self, step: int) -> bool:
        return bool(self._scores)

    def observe(self, step: int, gradients: Matrices) -> None:
        for path, gradient in gradients.items():
            moved = (self.course.matrix(path) * gradient).float()
            self._scores[path] -= moved / moved.square().mean().sqrt().clamp_min(1e-30)


class _Soft(_Scored):
    """A unit stays while the mean of its scores is above zero (a sigmoid above one half)."""

    def __init__(self, schedule: Movement, course: Course) -> None:
        super().__init__(schedule, course)
        self._pressure = Pressure(course.layers)

    def begin(self) -> None:
        super().begin()
        for score in self._scores.values():
            score.mul_(_ADAM * self.schedule.rate)
            # Above the threshold by more than the first steps can take away.
            score.add_(5 * self.schedule.rate)
            score.requires_grad_()

    def learned(self) -> list[Tensor]:
        return list(self._scores.values())

    @property
    def rate(self) -> float:
        return self.schedule.rate

    def masks(self, step: int) -> Matrices | None:
        for path, score in self._scores.items():
            # One step down a penalty on the scores, as strong as is needed now.
            score.data -= self.schedule.rate * self._pressure.pulls[path]
        return super().masks(step)

    def choose(self, path: str, sparsity: float, step: int) -> Tensor:
        score, layer = self._scores[path].detach(), self.course.layers[path]
        if step >= self._end:
            return self.course.mask(path, score, sparsity)
        mask = layer.pattern.spread(layer.pattern.pool(score, layer.gemm) > 0, layer.gemm)
        if not bool(mask.any()):
            mask = self.course.mask(path, score, sparsity)
        self._pressure.steer(path, 1 - float(mask.float().mean()), sparsity)
        return mask

    def weights(self, *, training: bool) -> Matrices:
        if not training:
            return super().weights(training=training)
        found = {}
        for path, score in self._scores.items():
            # Straight through: forward the mask, backward to the score as if it were the mask.
            gate = self._masks[path] + (score - score.detach())
            found[path] = self.course.view(path) * gate
        return found

    def state(self) -> dict[str, Any]:
        return super().state() | {"pressure": self._pressure.state()}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        for score in self._scores.values():
            score.requires_grad_()
        self._pressure.load(state["pressure"])
