"""One-shot pruning (S0, S1): all at once, then retraining if the plan has any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..settings import setting
from .base import SCHEDULES, Schedule


@SCHEDULES.register
@dataclass(frozen=True)
class OneShot(Schedule):
    """All weights go at once; retraining, if any, comes after.

    With fresh weights it is pruning at initialisation, as SNIP does it: they are drawn anew,
    pruned, and then trained for the first time.
    """

    kind: ClassVar[str] = "oneshot"
    label: ClassVar[str] = "One-shot"
    rank: ClassVar[int] = 10
    fresh: bool = setting(
        False, label="Fresh weights", help="Draw the weights anew before pruning."
    )

    @property
    def draws_anew(self) -> bool:
        return self.fresh
