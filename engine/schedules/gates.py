"""Learned gates (S1 [11]): a factor in [0, 1] on each unit, pruned where it reaches zero."""

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

_MOST_EASE = 10.0


@SCHEDULES.register
@dataclass(frozen=True)
class Gates(Curved):
    """Every unit is multiplied by a gate that is trained with the weights and drawn to zero.

    Gates start at 1 and stay in [0, 1]. A unit is drawn the harder the smaller its weights are
    (the adaptive lasso, Zou 2006). The draw on a layer is turned up or down so that the sparsity
    follows a cubic curve; at the end the lowest go, and the other gates become part of the
    weights. The rule's criterion is not used.
    """

    kind: ClassVar[str] = "gates"
    label: ClassVar[str] = "Learned gates"
    rank: ClassVar[int] = 60
    rate: float = setting(
        0.05, low=1e-9, high=10.0, label="Gate rate", help="Learning rate of the gates, by Adam."
    )

    def driver(self, course: Course) -> Driver:
        return _Gated(self, course, Pressure(course.layers, gain=3.0))


class _Gated(Follower):
    """Holds the gates, float32 in the shape of the pattern's units."""

    def _sizes(self, path: str) -> Tensor:
        """Mean magnitudes of the units."""
        layer = self.course.layers[path]
        return layer.pattern.pool(self.course.matrix(path).float().abs(), layer.gemm)

    def first(self, path: str) -> Tensor:
        return self._sizes(path).fill_(1)

    def press(self, path: str, pull: float) -> None:
        sizes, gate = self._sizes(path), self.values[path].data
        # One proximal step of the penalty. Under one pull for all, gates that began alike would
        # reach zero all at once.
        ease = (sizes.mean() / sizes.clamp_min(1e-30)).clamp_max(_MOST_EASE)
        gate.sub_(pull * ease).clamp_(0, 1)

    def open(self, path: str) -> Tensor:
        layer = self.course.layers[path]
        return layer.pattern.spread(self.values[path].detach() > 0, layer.gemm)

    def final(self, path: str) -> Tensor:
        import torch

        layer = self.course.layers[path]
        gate = layer.pattern.spread(self.values[path].detach(), layer.gemm)
        gated = self.course.matrix(path) * gate
        with torch.no_grad():
            self.course.parameter(path).copy_(layer.gemm.store(gated))
        # Among gates that are equal, such as many still at 1, the smaller weights go.
        return self.course.mask(path, gated.float().abs())

    def weights(self, *, training: bool) -> Matrices:
        found = {}
        for path, gate in self.values.items():
            layer = self.course.layers[path]
            spread = layer.pattern.spread(gate.clamp(0, 1), layer.gemm)
            found[path] = self.course.view(path) * spread
        return found

    def numbers(self) -> dict[str, float]:
        closed = sum(int((gate <= 0).sum()) for gate in self.learned())
        count = sum(gate.numel() for gate in self.learned())
        return {"closed": closed / count} if count else {}
