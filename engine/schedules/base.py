"""What every schedule is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import BadInput
from ..info import LayerInfo
from ..patterns import Pattern
from ..settings import Family, Setting
from .driver import Course, Driver

# A training goes on to this many times its length for an end of one's own. More is a slip.
_FARTHEST = 100


@dataclass(frozen=True)
class Schedule(Setting):
    """When masks are set, to which sparsity, and how they are learned.

    `trains`: makes no sense without training. `frozen`: weights stay bit for bit as they are, and
    only masks are learned. A schedule that is only a curve says its `target`; one that does more
    has a `Driver` of its own.
    """

    trains: ClassVar[bool] = False
    frozen: ClassVar[bool] = False

    @property
    def draws_anew(self) -> bool:
        """Whether the weights are initialised again before anything else."""
        return False

    def check(self, total: int) -> None:
        """Raise BadInput where a training of `total` optimizer steps cannot do what is asked."""
        if not self.trains:
            return
        if total == 0:
            raise BadInput(
                f"{self.kind} prunes while it trains, and 0 epochs train nothing; set epochs of "
                "the training to at least 1"
            )
        if self.last_step(total) > _FARTHEST * total:
            name = "begin" if getattr(self, "end", None) is None else "end"
            raise BadInput(
                f"{self.kind}: {name} is step {getattr(self, name)}, but the training has {total} "
                f"steps; set an earlier {name}, leave it out, or train for more epochs"
            )

    def last_step(self, total: int) -> int:
        """The optimizer step at which the masks are final, of `total` planned ones."""
        return 0

    def steps(self, planned: int, per_epoch: int) -> int:
        """The optimizer steps that a training of `planned` ones takes under this schedule.

        More, where the masks are final after three quarters of it and less than an epoch is left
        to recover: then a quarter of all, as by default, and no less than was planned.
        """
        last = self.last_step(planned)
        early = 4 * last <= 3 * planned or last + per_epoch <= planned
        if not self.trains or self.frozen or early:
            return planned
        return last + max(per_epoch, planned, last // 3)

    def target(self, step: int, total: int, final: float) -> float | None:
        """The sparsity to set before optimizer step `step`, or None to leave the masks alone.

        Called for step 0 … last_step. `final` is the layer's allocated sparsity. Where a driver
        learns the masks this is the course that they are to follow: without one of its own, none
        until they are final.
        """
        return final if step == self.last_step(total) else None

    @property
    def course_words(self) -> str:
        """How sparsity comes about, in a few words under its curve."""
        return "while training" if self.trains else "before any training"

    def misfit(self, layer: LayerInfo, pattern: Pattern) -> str | None:
        """Why masks of `pattern` cannot be learned so on `layer`, in words after its path."""
        return None

    def driver(self, course: Course) -> Driver:
        """What steers one run; new for every run."""
        return Driver(self, course)


SCHEDULES: Family[Schedule] = Family("schedule", __package__)
