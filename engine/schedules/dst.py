"""Dynamic sparse training (S1 [12]; Liu et al. 2020): a learned threshold per layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..settings import setting
from .base import SCHEDULES
from .driver import Course, Driver, Matrices
from .learned import Curved, Follower
from .pressure import Pressure

if TYPE_CHECKING:
    from torch import Tensor


@SCHEDULES.register
@dataclass(frozen=True)
class DST(Curved):
    """Each layer learns a threshold; units whose mean magnitude lies below it compute as zero.

    The threshold gets its gradient through a long-tailed estimate of the step function, and a
    pull upwards that is turned up or down so that the sparsity follows a cubic curve. The rule's
    criterion is not used.
    """

    kind: ClassVar[str] = "dst"
    label: ClassVar[str] = "Learned threshold (DST)"
    rank: ClassVar[int] = 55
    rate: float = setting(
        0.02,
        low=1e-9,
        high=10.0,
        label="Threshold rate",
        help="Learning rate of the thresholds, by Adam.",
    )

    def driver(self, course: Course) -> Driver:
        return _Thresholds(self, course, Pressure(course.layers, both_ways=True))


class _Thresholds(Follower):
    """Thresholds are in units of the layer's mean magnitude, so that one rate suits all layers."""

    def first(self, path: str) -> Tensor:
        return self.course.matrix(path).float().new_zeros(())

    def press(self, path: str, pull: float) -> None:
        # The published penalty exp(-t) pulls by exp(-t). Its weight is steered here, so that the
        # factor can be left out: with it, high thresholds could no longer be held.
        self.values[path].data += pull

    def _units(self, path: str) -> Tensor:
        """Mean magnitudes of the units; differentiable."""
        layer = self.course.layers[path]
        return layer.pattern.pool(self.course.view(path).float().abs(), layer.gemm)

    def _margins(self, path: str) -> Tensor:
        """How far each unit lies above the threshold, in weights; differentiable in both.

        The slope of `_step` is meant for weights as they are. In units of their mean it would be
        many times as steep, and the weights near the threshold would learn so many times as fast.
        """
        units = self._units(path)
        return units - self.values[path] * units.detach().mean()

    def open(self, path: str) -> Tensor:
        layer = self.course.layers[path]
        passing = self._margins(path).detach() > 0
        if not bool(passing.any()):
            # A threshold above all units would starve the layer: back to the best of them.
            units = self._units(path).detach()
            self.values[path].data.copy_((1 - 1e-3) * units.max() / units.mean())
        return layer.pattern.spread(passing, layer.gemm)

    def final(self, path: str) -> Tensor:
        return self.course.mask(path, self.course.matrix(path).float().abs())

    def weights(self, *, training: bool) -> Matrices:
        found = {}
        for path in self.values:
            layer = self.course.layers[path]
            # `spread` takes any tensor of units; as weights it carries their gradient.
            steps = layer.pattern.spread(_step(self._margins(path)), layer.gemm)
            found[path] = self.course.view(path) * steps
        return found

    def numbers(self) -> dict[str, float]:
        if not self.values:
            return {}
        return {"threshold": sum(float(t.detach()) for t in self.learned()) / len(self.values)}


def _step(x: Tensor) -> Tensor:
    """1 where x > 0, else 0; backward 2 - 4|x| up to 0.4, 0.4 up to 1, then 0 (Liu et al., eq. 8).

    Written as a value plus a polynomial whose value cancels and whose slope is that estimate.
    """
    size = x.detach().abs()
    slope = (2 - 4 * size).clamp_min(0.4) * (size <= 1)
    return (x.detach() > 0).to(x.dtype) + slope * (x - x.detach())
