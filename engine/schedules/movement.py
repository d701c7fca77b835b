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
from .learned import Learner
from .pressure import Pressure

if TYPE_CHECKING:
    from torch import Tensor


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
        30.0,
        low=0.0,
        high=1e6,
        label="Head start",
        help="Head start of a weight of mean size, in steps of movement; 0: movement alone, as "
        "published.",
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


class _Scored(Learner):
    """Computes with W under masks that do not touch W itself; `values` are the scores."""

    schedule: Movement

    def __init__(self, schedule: Movement, course: Course) -> None:
        super().__init__(schedule, course)
        self._masks: Matrices = {}

    def first(self, path: str) -> Tensor:
        sizes = self.course.matrix(path).float().abs()
        return self.schedule.magnitude * sizes / sizes.mean().clamp_min(1e-30)

    def begin(self) -> None:
        import torch

        super().begin()
        self._masks = {p: torch.ones_like(s, dtype=torch.bool) for p, s in self.values.items()}

    def masks(self, step: int) -> Matrices | None:
        chosen: Matrices = {}
        for path, layer in self.course.layers.items():
            sparsity = self.schedule.target(step, self.course.steps, layer.sparsity)
            if sparsity is not None:
                chosen[path] = self.choose(path, self.values[path].detach(), sparsity, step)
        self._masks |= chosen
        if step >= self.end:
            self.values = {}
        return chosen or None

    def choose(self, path: str, scores: Tensor, sparsity: float, step: int) -> Tensor:
        """The mask of a layer that is to have about `sparsity` at `step`, exactly at the last."""
        return self.course.mask(path, scores, sparsity)

    def weights(self, *, training: bool) -> Matrices:
        return {path: self.course.view(path) * self._masks[path] for path in self.values}

    def state(self) -> dict[str, Any]:
        return super().state() | {"masks": self._masks}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self._masks = state["masks"]


class _Hard(_Scored):
    """The straight-through gradient of a score is w·∂L/∂w, so the scores are its negative sum.

    Every step counts alike, whatever its loss: the movement of a layer is divided by its root mean
    square. Otherwise the few steps after a pruning, when the loss is up, would say it all.
    """

    def learned(self) -> list[Tensor]:
        return []

    def wants_gradients(self, step: int) -> bool:
        return bool(self.values)

    def observe(self, step: int, gradients: Matrices) -> None:
        for path, gradient in gradients.items():
            moved = (self.course.matrix(path) * gradient).float()
            self.values[path].data -= moved / moved.square().mean().sqrt().clamp_min(1e-30)


class _Soft(_Scored):
    """A unit stays while the mean of its scores is above zero (a sigmoid above one half)."""

    def __init__(self, schedule: Movement, course: Course) -> None:
        super().__init__(schedule, course)
        self._pressure = Pressure(course.layers)

    def first(self, path: str) -> Tensor:
        # Above the threshold by more than the first steps can take away.
        return self.rate * (super().first(path) + 5)

    def masks(self, step: int) -> Matrices | None:
        for path, score in self.values.items():
            # One step down a penalty on the scores, as strong as is needed now.
            score.data -= self.rate * self._pressure.pulls[path]
        return super().masks(step)

    def choose(self, path: str, scores: Tensor, sparsity: float, step: int) -> Tensor:
        layer = self.course.layers[path]
        best = super().choose(path, scores, sparsity, step)
        if step >= self.end:
            return best
        mask = layer.pattern.spread(layer.pattern.pool(scores, layer.gemm) > 0, layer.gemm)
        if not bool(mask.any()):
            mask = best
        self._pressure.steer(path, 1 - float(mask.float().mean()), sparsity)
        return mask

    def weights(self, *, training: bool) -> Matrices:
        if not training:
            return super().weights(training=training)
        found = {}
        for path, score in self.values.items():
            # Straight through: forward the mask, backward to the score as if it were the mask.
            gate = self._masks[path] + (score - score.detach())
            found[path] = self.course.view(path) * gate
        return found

    def state(self) -> dict[str, Any]:
        return super().state() | {"pressure": self._pressure.state()}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self._pressure.load(state["pressure"])
