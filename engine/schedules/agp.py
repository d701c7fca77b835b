"""Automated gradual pruning (S0; Zhu & Gupta 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import BadInput
from ..settings import setting
from .base import SCHEDULES, Schedule
from .curve import stepped, three_quarters


@SCHEDULES.register
@dataclass(frozen=True)
class AGP(Schedule):
    """Sparsity rises along a cubic curve while the model trains: fast first, then gently.

    s(t) = s_f + (s_i - s_f) (1 - (t - t0) / (n Δt))³, per layer.
    """

    kind: ClassVar[str] = "agp"
    label: ClassVar[str] = "Gradual (AGP)"
    trains: ClassVar[bool] = True
    begin: int = setting(0, low=0, help="Optimizer step of the first pruning.")
    end: int | None = setting(
        None, low=1, help="Step at which the final sparsity is reached; empty: 3/4 of the training."
    )
    every: int = setting(10, low=1, help="Steps between two prunings.")
    initial: float = setting(0.0, low=0.0, high=1.0, help="Sparsity at the first pruning.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.end is not None and self.end <= self.begin:
            raise BadInput(f"agp: end must come after begin ({self.begin}), not at {self.end}")

    def last_step(self, total: int) -> int:
        return three_quarters(self.end, self.begin, total)

    def target(self, step: int, total: int, final: float) -> float | None:
        return stepped(step, self.begin, self.last_step(total), self.every, self.initial, final)
