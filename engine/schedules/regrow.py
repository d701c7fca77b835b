"""Prune and grow: SET (Mocanu et al. 2018) and growth by gradient (S3; RigL, Evci et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..info import LayerInfo
from ..patterns import Pattern
from ..settings import setting
from .base import SCHEDULES, Schedule
from .curve import three_quarters
from .driver import Course, Driver, Matrices
from .fits import not_ranked

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Regrow(Schedule):
    """Sparsity is there from the first step; which weights exist changes as the model trains."""

    trains: ClassVar[bool] = True
    by_gradient: ClassVar[bool] = False
    end: int | None = setting(None, low=1, help="Step of the last exchange; empty: at 3/4.")
    every: int = setting(25, low=1, help="Steps between two exchanges.")
    share: float = setting(
        0.3,
        low=0.0,
        high=1.0,
        label="Share at first",
        help="Share of the kept weights that is exchanged at first.",
    )
    fresh: bool = setting(
        False,
        label="Fresh weights",
        help="Draw the weights anew first: sparse training from scratch.",
    )
    start: str = setting(
        "criterion",
        choices=("criterion", "random"),
        label="First masks",
        help="What is kept at the beginning: what the rule's criterion says, or what chance says.",
    )

    @property
    def draws_anew(self) -> bool:
        return self.fresh

    def last_step(self, total: int) -> int:
        return three_quarters(self.end, 0, total)

    def target(self, step: int, total: int, final: float) -> float | None:
        return final if step == 0 or self.exchanges(step, total) else None

    @property
    def course_words(self) -> str:
        return "sparse all along, weights change places"

    def exchanges(self, step: int, total: int) -> bool:
        """Whether weights are exchanged before optimizer step `step`."""
        return 0 < step <= self.last_step(total) and step % self.every == 0

    def misfit(self, layer: LayerInfo, pattern: Pattern) -> str | None:
        return not_ranked(self.kind, pattern)

    def driver(self, course: Course) -> Driver:
        return _Exchange(self, course)


@SCHEDULES.register
@dataclass(frozen=True)
class SET(Regrow):
    """Sparse from the first step: the smallest weights go now and then, and random ones come.

    The share that is exchanged falls to zero along a cosine.
    """

    kind: ClassVar[str] = "set"
    label: ClassVar[str] = "Random growth (SET)"
    rank: ClassVar[int] = 80


@SCHEDULES.register
@dataclass(frozen=True)
class RigL(Regrow):
    """Sparse from the first step: the smallest weights go, those with the largest gradients come.

    The share that is exchanged falls to zero along a cosine. New weights start at zero.
    """

    kind: ClassVar[str] = "rigl"
    label: ClassVar[str] = "Gradient growth (RigL)"
    rank: ClassVar[int] = 70
    by_gradient: ClassVar[bool] = True


class _Exchange(Driver):
    """Exchanges weights, or whole units of a pattern, at equal sparsity."""

    schedule: Regrow

    def __init__(self, schedule: Regrow, course: Course) -> None:
        import torch

        super().__init__(schedule, course)
        self._masks: Matrices = {}
        self._gradients: Matrices = {}
        self._generator = torch.Generator().manual_seed(course.seed)

    def masks(self, step: int) -> Matrices | None:
        if step == 0:
            self._masks = self._first()
            return dict(self._masks)
        if not self.schedule.exchanges(step, self.course.steps):
            return None
        done = step / self.schedule.last_step(self.course.steps)
        share = self.schedule.share / 2 * (1 + math.cos(math.pi * done))
        self._masks = {path: self._exchanged(path, share) for path in self.course.layers}
        self._gradients = {}
        return dict(self._masks)

    def _first(self) -> Matrices:
        layers = self.course.layers
        if self.schedule.start == "random":
            return {path: self.course.mask(path, self._random(path)) for path in layers}
        return self.course.prune({path: layer.sparsity for path, layer in layers.items()})

    def _random(self, path: str) -> Tensor:
        import torch

        weight = self.course.matrix(path)
        return torch.rand(weight.shape, generator=self._generator).to(weight.device)

    def _exchanged(self, path: str, share: float) -> Tensor:
        """The mask after the least of the kept made room for the best of the others."""
        from ...kernels.selection.select import lowest

        layer, mask = self.course.layers[path], self._masks[path]
        units = layer.pattern.pool(self.course.matrix(path).float().abs(), layer.gemm)
        kept = layer.pattern.pool(mask.float(), layer.gemm) > 0.5
        ranked = units.masked_fill(~kept, math.inf)
        dropped = lowest(ranked, round(share * int(kept.sum())))
        stays = layer.pattern.spread(kept & ~dropped, layer.gemm)
        if self.schedule.by_gradient:
            comes = self._gradients[path].float().abs()
        else:
            comes = self._random(path)
        # What stays outranks everything that could come, whatever the gradients' size.
        comes = comes / comes.max().clamp_min(1e-30)
        return self.course.mask(path, comes.masked_fill(stays, 2.0 * comes.numel()))

    def wants_gradients(self, step: int) -> bool:
        return self.schedule.by_gradient and self.schedule.exchanges(step + 1, self.course.steps)

    def observe(self, step: int, gradients: Matrices) -> None:
        self._gradients = {path: gradient.clone() for path, gradient in gradients.items()}

    def state(self) -> dict[str, Any]:
        return {
            "masks": self._masks,
            "gradients": self._gradients,
            "random": self._generator.get_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self._masks, self._gradients = state["masks"], state["gradients"]
        self._generator.set_state(state["random"])
