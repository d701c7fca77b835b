"""ADMM pruning (S4; Zhang et al. 2018): weights drawn towards a pattern, then cut to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import BadInput
from ..info import LayerInfo
from ..patterns import Pattern
from ..settings import setting
from .base import SCHEDULES, Schedule
from .curve import three_quarters
from .driver import Course, Driver, Matrices
from .fits import not_ranked

if TYPE_CHECKING:
    from torch import Tensor


@SCHEDULES.register
@dataclass(frozen=True)
class ADMM(Schedule):
    """Trains with a pull towards the nearest weights that obey the pattern, then prunes hard.

    The loss gains ρ/2 ‖W - Z + U‖². Every so often Z becomes the projection of W + U onto the
    pattern, and U grows by W - Z. The pull ρ rises geometrically. After the cut the rest of the
    training holds the masks. The rule's criterion is not used.
    """

    kind: ClassVar[str] = "admm"
    label: ClassVar[str] = "ADMM"
    rank: ClassVar[int] = 50
    trains: ClassVar[bool] = True
    end: int | None = setting(None, low=1, help="Step of the hard pruning; empty: at 3/4.")
    every: int = setting(10, low=1, help="Steps between two projections.")
    rho: float = setting(
        0.02, low=1e-9, high=1000.0, label="Pull ρ from", help="The pull ρ at the start."
    )
    last_rho: float = setting(
        0.5, low=1e-9, high=1000.0, label="Pull ρ to", help="The pull ρ just before the cut."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.last_rho < self.rho:
            raise BadInput(
                f"admm: last_rho must be at least rho ({self.rho:g}), not {self.last_rho:g}"
            )

    def pull(self, step: int, end: int) -> float:
        """ρ at `step` of the `end` before the cut."""
        rho: float = self.rho * (self.last_rho / self.rho) ** (step / end)
        return rho

    def last_step(self, total: int) -> int:
        return three_quarters(self.end, 0, total)

    @property
    def course_words(self) -> str:
        return "drawn to the pattern, then cut to it"

    def misfit(self, layer: LayerInfo, pattern: Pattern) -> str | None:
        return not_ranked(self.kind, pattern)

    def driver(self, course: Course) -> Driver:
        return _Pull(self, course)


class _Pull(Driver):
    """Holds Z and, scaled by 1/ρ, the dual U of every layer."""

    schedule: ADMM

    def __init__(self, schedule: ADMM, course: Course) -> None:
        super().__init__(schedule, course)
        self._end = schedule.last_step(course.steps)
        self._rho = schedule.rho
        self._targets: Matrices = {}
        self._duals: Matrices = {}

    def masks(self, step: int) -> Matrices | None:
        if step > self._end:
            return None
        if step == self._end:
            final = {path: self._project(path)[0] for path in self.course.layers}
            self._targets, self._duals = {}, {}
            return final
        if step % self.schedule.every:
            return None
        rho = self.schedule.pull(step, self._end)
        masks = {}
        for path in self.course.layers:
            masks[path], target = self._project(path)
            moved = self.course.matrix(path) - target
            # At first U is 0. The scaled dual is U = y / ρ, so that a new ρ scales it anew.
            before = self._duals[path] + moved if path in self._duals else moved * 0
            self._duals[path] = before * (self._rho / rho)
            self._targets[path] = target
        self._rho = rho
        return masks

    def _project(self, path: str) -> tuple[Tensor, Tensor]:
        """The pattern's mask that is nearest to W + U in the L2 norm, and W + U under it."""
        pulled = self.course.matrix(path)
        if path in self._duals:
            pulled = pulled + self._duals[path]
        mask = self.course.mask(path, pulled.float().square())
        return mask, pulled * mask

    def holds(self, step: int) -> bool:
        return step >= self._end

    def penalty(self) -> Tensor | None:
        parts = [
            (self.course.view(path) - target + self._duals[path]).square().sum()
            for path, target in self._targets.items()
        ]
        return self._rho / 2 * sum(parts[1:], parts[0]) if parts else None

    def numbers(self) -> dict[str, float]:
        if not self._targets:
            return {}
        away = size = 0.0
        for path, target in self._targets.items():
            weight = self.course.matrix(path)
            away += float((weight - target).square().sum())
            size += float(weight.square().sum())
        return {"distance": (away / max(size, 1e-30)) ** 0.5}

    def state(self) -> dict[str, Any]:
        return {"rho": self._rho, "targets": self._targets, "duals": self._duals}

    def load(self, state: dict[str, Any]) -> None:
        self._rho, self._targets, self._duals = state["rho"], state["targets"], state["duals"]
