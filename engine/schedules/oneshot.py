"""One-shot pruning (S0, S1): all at once, then retraining if the plan has any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import SCHEDULES, Schedule


@SCHEDULES.register
@dataclass(frozen=True)
class OneShot(Schedule):
    """All weights go at once; retraining, if any, comes after."""

    kind: ClassVar[str] = "oneshot"
    label: ClassVar[str] = "One-shot"
    rank: ClassVar[int] = 10

    def target(self, step: int, total: int, final: float) -> float | None:
        return final if step == 0 else None
