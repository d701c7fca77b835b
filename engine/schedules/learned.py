"""What is learned beside the weights, and how it is made to follow a curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ..info import LayerInfo
from ..patterns import Pattern
from ..settings import setting
from .base import Schedule
from .curve import cubic, three_quarters
from .driver import Course, Driver, Matrices, Steered
from .fits import not_free
from .pressure import Pressure

if TYPE_CHECKING:
    from torch import Tensor


class Learns(Steered, Protocol):
    """A schedule that has a learning rate of its own."""

    @property
    def rate(self) -> float: ...

    def last_step(self, total: int) -> int:
        """See `Schedule.last_step`."""


class Learner(Driver):
    """Trains one tensor a layer beside the weights, `values` by path, until the masks are final.

    The weights are held from the step `end` on. `values` are empty once they are of no more use.
    """

    def __init__(self, schedule: Learns, course: Course) -> None:
        super().__init__(schedule, course)
        self.end = schedule.last_step(course.steps)
        self.values: Matrices = {}
        self._rate = schedule.rate

    def first(self, path: str) -> Tensor:
        """The values of a layer to begin with, on the device of its weights."""
        raise NotImplementedError

    def begin(self) -> None:
        self.values = {path: self.first(path).requires_grad_() for path in self.course.layers}

    def learned(self) -> list[Tensor]:
        return list(self.values.values())

    @property
    def rate(self) -> float:
        return self._rate

    def holds(self, step: int) -> bool:
        return step >= self.end

    def state(self) -> dict[str, Any]:
        return {"values": {path: value.detach() for path, value in self.values.items()}}

    def load(self, state: dict[str, Any]) -> None:
        self.values = {p: value.clone().requires_grad_() for p, value in state["values"].items()}


@dataclass(frozen=True)
class Curved(Schedule):
    """Learns for every unit by itself whether it stays, so that sparsity follows a cubic curve."""

    trains: ClassVar[bool] = True
    end: int | None = setting(None, low=1, help="Step of the final masks; empty: at 3/4.")
    every: int = setting(5, low=1, help="Steps between two adjustments of the pull.")
    rate: float = setting(0.02, low=1e-9, high=10.0, help="Learning rate, by Adam.")

    def last_step(self, total: int) -> int:
        return three_quarters(self.end, 0, total)

    def target(self, step: int, total: int, final: float) -> float | None:
        return cubic(step, 0, self.last_step(total), 0.0, final)

    @property
    def course_words(self) -> str:
        return "learned, steered along this curve"

    def misfit(self, layer: LayerInfo, pattern: Pattern) -> str | None:
        return not_free(self.kind, pattern)


class Follower(Learner):
    """Learns units away under a pressure that makes each layer's sparsity follow the curve."""

    schedule: Curved

    def __init__(self, schedule: Curved, course: Course, pressure: Pressure) -> None:
        super().__init__(schedule, course)
        self._pressure = pressure

    def press(self, path: str, pull: float) -> None:
        """Move a layer's values by `pull` towards fewer units."""
        raise NotImplementedError

    def open(self, path: str) -> Tensor:
        """The bool [out, in] mask of what computes now."""
        raise NotImplementedError

    def final(self, path: str) -> Tensor:
        """The bool [out, in] mask at exactly the layer's sparsity; may write its weights."""
        raise NotImplementedError

    def masks(self, step: int) -> Matrices | None:
        for path in self.values:
            self.press(path, self.rate * self._pressure.pulls[path])
        if step == self.end:
            masks = {path: self.final(path) for path in self.values}
            self.values = {}
            return masks
        if step > self.end or step % self.schedule.every:
            return None
        masks = {path: self.open(path) for path in self.values}
        for path, mask in masks.items():
            final = self.course.layers[path].sparsity
            wanted = cubic(step + self.schedule.every, 0, self.end, 0.0, final)
            self._pressure.steer(path, 1 - float(mask.float().mean()), wanted)
        return masks

    def state(self) -> dict[str, Any]:
        return super().state() | {"pressure": self._pressure.state()}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self._pressure.load(state["pressure"])
