"""What every schedule is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..settings import Family, Setting


@dataclass(frozen=True)
class Schedule(Setting):
    """When masks are set, and to which sparsity. `trains`: makes no sense without training."""

    trains: ClassVar[bool] = False

    def last_step(self, total: int) -> int:
        """The optimizer step at which the final sparsity is reached, of `total` planned ones."""
        return 0

    def target(self, step: int, total: int, final: float) -> float | None:
        """The sparsity to set before optimizer step `step`, or None to leave the masks alone.

        Called for step 0 … last_step. `final` is the layer's allocated sparsity.
        """
        raise NotImplementedError


SCHEDULES: Family[Schedule] = Family("schedule", __package__)
