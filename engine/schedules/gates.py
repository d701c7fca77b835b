"""Learned gates (S1 [11]): a factor in [0, 1] on each unit, pruned where it reaches zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..info import LayerInfo
from ..patterns import Pattern
from ..settings import setting
from .base import SCHEDULES, Schedule
from .curve import cubic, three_quarters
from .driver import Course, Driver, Matrices
from .fits import not_free
from .pressure import Pressure

if TYPE_CHECKING:
    from torch import Tensor


@SCHEDULES.register
@dataclass(frozen=True)
class Gates(Schedule):
    """Every unit is multiplied by a gate that is trained with the weights and drawn to zero.

    Gates start at 1 and stay in [0, 1]. The draw on a layer's gates is turned up or down so that
    the sparsity follows a cubic curve; at the end the lowest go, and the others become part of the
    weights. The rule's criterion is not used.
    """

    kind: ClassVar[str] = "gates"
    label: ClassVar[str] = "Learned gates"
    rank: ClassVar[int] = 60
    trains: ClassVar[bool] = True
    end: int | None = setting(None, low=1, help="Step of the final masks; empty: at 3/4.")
    every: int = setting(5, low=1, help="Steps between two adjustments of the penalty.")
    rate: float = setting(
        0.05, low=1e-9, high=10.0, label="Gate rate", help="Learning rate of the gates, by Adam."
    )

    def last_step(self, total: int) -> int:
        return three_quarters(self.end, 0, total)

    def target(self, step: int, total: int, final: float) -> float | None:
        return cubic(step, 0, self.last_step(total), 0.0, final)

    @property
    def course_words(self) -> str:
        return "learned, steered along this curve"

    def misfit(self, layer: LayerInfo, pattern: Pattern) -> str | None:
        return not_free(self.kind, pattern)

    def driver(self, course: Course) -> Driver:
        return _Gated(self, course)


class _Gated(Driver):
    """Holds the gates, float32 in the shape of the pattern's units."""

    schedule: Gates

    def __init__(self, schedule: Gates, course: Course) -> None:
        super().__init__(schedule, course)
        self._end = schedule.last_step(course.steps)
        self._gates: dict[str, Tensor] = {}
        self._pressure = Pressure(course.layers)

    def begin(self) -> None:
        import torch

        for path, layer in self.course.layers.items():
            units = layer.pattern.pool(self.course.matrix(path).float(), layer.gemm)
            self._gates[path] = torch.ones_like(units).requires_grad_()

    def learned(self) -> list[Tensor]:
        return list(self._gates.values())

    @property
    def rate(self) -> float:
        return self.schedule.rate

    def holds(self, step: int) -> bool:
        return step >= self._end

    def masks(self, step: int) -> Matrices | None:
        if step > self._end:
            return None
        for path, gate in self._gates.items():
            # One proximal step of an L1 penalty, as strong as is needed now.
            gate.data -= self.schedule.rate * self._pressure.pulls[path]
            gate.data.clamp_(0, 1)
        if step == self._end:
            return self._close()
        if step % self.schedule.every:
            return None
        masks = {}
        for path, gate in self._gates.items():
            layer = self.course.layers[path]
            masks[path] = layer.pattern.spread(gate.detach() > 0, layer.gemm)
            wanted = cubic(step + self.schedule.every, 0, self._end, 0.0, layer.sparsity)
            self._pressure.steer(path, 1 - float(masks[path].float().mean()), wanted)
        return masks

    def _close(self) -> Matrices:
        """The final masks; the gates go into the weights."""
        import torch

        masks = {}
        for path, gate in self._gates.items():
            layer = self.course.layers[path]
            gated = self.course.matrix(path) * layer.pattern.spread(gate.detach(), layer.gemm)
            with torch.no_grad():
                self.course.parameter(path).copy_(layer.gemm.store(gated))
            # Among gates that are equal, such as many still at 1, the smaller weights go.
            masks[path] = self.course.mask(path, gated.float().abs())
        self._gates = {}
        return masks

    def weights(self, *, training: bool) -> Matrices:
        found = {}
        for path, gate in self._gates.items():
            layer = self.course.layers[path]
            found[path] = self.course.view(path) * layer.pattern.spread(
                gate.clamp(0, 1), layer.gemm
            )
        return found

    def numbers(self) -> dict[str, float]:
        closed = sum(int((gate <= 0).sum()) for gate in self._gates.values())
        count = sum(gate.numel() for gate in self._gates.values())
        return {"closed": closed / count} if count else {}

    def state(self) -> dict[str, Any]:
        return {
            "gates": {path: gate.detach() for path, gate in self._gates.items()},
            "pressure": self._pressure.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self._gates = {p: g.clone().requires_grad_() for p, g in state["gates"].items()}
        self._pressure.load(state["pressure"])
