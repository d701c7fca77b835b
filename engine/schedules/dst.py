"""Dynamic sparse training (S1 [12]; Liu et al. 2020): a learned threshold per layer."""

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
class DST(Schedule):
    """Each layer learns a threshold; units whose mean magnitude lies below it compute as zero.

    The threshold gets its gradient through a long-tailed estimate of the step function, and a
    penalty exp(-threshold) that is turned up or down so that the sparsity follows a cubic curve.
    The rule's criterion is not used.
    """

    kind: ClassVar[str] = "dst"
    label: ClassVar[str] = "Learned threshold (DST)"
    rank: ClassVar[int] = 55
    trains: ClassVar[bool] = True
    end: int | None = setting(None, low=1, help="Step of the final masks; empty: at 3/4.")
    every: int = setting(5, low=1, help="Steps between two adjustments of the penalty.")
    rate: float = setting(
        0.03,
        low=1e-9,
        high=10.0,
        label="Threshold rate",
        help="Learning rate of the thresholds, by Adam.",
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
        return _Thresholds(self, course)


class _Thresholds(Driver):
    """Thresholds are in units of the layer's mean magnitude, so that one rate suits all layers."""

    schedule: DST

    def __init__(self, schedule: DST, course: Course) -> None:
        super().__init__(schedule, course)
        self._end = schedule.last_step(course.steps)
        self._thresholds: dict[str, Tensor] = {}
        self._pressure = Pressure(course.layers, gain=20.0)

    def begin(self) -> None:
        import torch

        device = next(self.course.module.parameters()).device
        for path in self.course.layers:
            self._thresholds[path] = torch.zeros((), device=device, requires_grad=True)

    def learned(self) -> list[Tensor]:
        return list(self._thresholds.values())

    @property
    def rate(self) -> float:
        return self.schedule.rate

    def holds(self, step: int) -> bool:
        return step >= self._end

    def _margins(self, path: str) -> Tensor:
        """How far each unit's mean magnitude lies above the threshold; differentiable in both."""
        layer = self.course.layers[path]
        sizes = self.course.view(path).float().abs()
        units = layer.pattern.pool(sizes, layer.gemm)
        return units / units.detach().mean().clamp_min(1e-30) - self._thresholds[path]

    def masks(self, step: int) -> Matrices | None:
        import torch

        self._pull()
        if step > self._end or (step != self._end and step % self.schedule.every):
            return None
        with torch.no_grad():
            margins = {path: self._margins(path) for path in self.course.layers}
        masks = {}
        for path, layer in self.course.layers.items():
            spread = layer.pattern.spread
            if step == self._end:
                sizes = self.course.matrix(path).float().abs()
                masks[path] = self.course.mask(path, sizes)
                continue
            masks[path] = spread(margins[path] > 0, layer.gemm)
            wanted = cubic(step + self.schedule.every, 0, self._end, 0.0, layer.sparsity)
            self._pressure.steer(path, 1 - float(masks[path].float().mean()), wanted)
            if not bool(masks[path].any()):
                # A threshold above all units would starve the layer: back to the best of them.
                self._thresholds[path].data += margins[path].max() - 1e-3
        if step == self._end:
            self._thresholds = {}
        return masks

    def _pull(self) -> None:
        """One step down the penalty exp(-threshold), as strong as is needed now."""
        for path, threshold in self._thresholds.items():
            pull = self.schedule.rate * self._pressure.pulls[path]
            threshold.data += pull * (-threshold.data).exp()

    def weights(self, *, training: bool) -> Matrices:
        found = {}
        for path in self._thresholds:
            layer = self.course.layers[path]
            weight = self.course.view(path)
            steps = _step(self._margins(path))
            # `spread` takes any tensor of units; as weights it carries their gradient.
            found[path] = weight * layer.pattern.spread(steps, layer.gemm)
        return found

    def numbers(self) -> dict[str, float]:
        if not self._thresholds:
            return {}
        values = [float(threshold.detach()) for threshold in self._thresholds.values()]
        return {"threshold": sum(values) / len(values)}

    def state(self) -> dict[str, Any]:
        return {
            "thresholds": {path: t.detach() for path, t in self._thresholds.items()},
            "pressure": self._pressure.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self._thresholds = {p: t.clone().requires_grad_() for p, t in state["thresholds"].items()}
        self._pressure.load(state["pressure"])


def _step(x: Tensor) -> Tensor:
    """1 where x > 0, else 0; backward 2 - 4|x| up to 0.4, 0.4 up to 1, then 0 (Liu et al., eq. 8).

    Written as a value plus a polynomial whose value cancels and whose slope is that estimate.
    """
    size = x.detach().abs()
    slope = (2 - 4 * size).clamp_min(0.4) * (size <= 1)
    return (x.detach() > 0).to(x.dtype) + slope * (x - x.detach())
