"""Iterative pruning, with or without rewinding (S1 [21], S4; Frankle & Carbin 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import BadInput
from ..settings import setting
from .base import SCHEDULES, Schedule
from .driver import Course, Driver, Matrices

if TYPE_CHECKING:
    from torch import Tensor


@SCHEDULES.register
@dataclass(frozen=True)
class Iterative(Schedule):
    """Prunes a little, retrains, prunes a little more: each round takes the same share of the rest.

    The prunings are spread evenly over three quarters of the training. Rewinding the weights gives
    what is kept the values that it had early (lottery tickets); rewinding the rate only starts the
    learning rate's course anew with each round.
    """

    kind: ClassVar[str] = "iterative"
    label: ClassVar[str] = "Iterative"
    rank: ClassVar[int] = 30
    trains: ClassVar[bool] = True
    rounds: int = setting(5, low=1, high=1000, help="Prunings.")
    rewind: str = setting(
        "none",
        choices=("none", "rate", "weights"),
        help="What each round starts again from: nothing, the learning rate's course, or that and "
        "the weights of an early step.",
    )
    rewind_to: int = setting(0, low=0, help="Step whose weights a round goes back to.")
    fresh: bool = setting(
        False, label="Fresh weights", help="Draw the weights anew first, as for a lottery ticket."
    )

    @property
    def draws_anew(self) -> bool:
        return self.fresh

    def check(self, total: int) -> None:
        super().check(total)
        if self.rewind != "weights":
            return
        if self.rounds == 1:
            raise BadInput(
                "iterative: rewind weights needs at least 2 rounds; the first has nothing to go "
                "back to"
            )
        last = self.last_step(total)
        if self.rewind_to >= last:
            raise BadInput(
                f"iterative: rewind_to must come before the last round, which begins at step "
                f"{last} of {total}, not at {self.rewind_to}"
            )

    def start(self, index: int, total: int) -> int:
        """The step at which round `index` (0 … rounds - 1) begins."""
        return index * (total * 3 // 4) // max(1, self.rounds - 1)

    def last_step(self, total: int) -> int:
        return self.start(self.rounds - 1, total)

    def target(self, step: int, total: int, final: float) -> float | None:
        # Of rounds that begin at one step, as in a very short training, the last one counts.
        for index in reversed(range(self.rounds)):
            if step == self.start(index, total):
                return 1 - (1 - final) ** ((index + 1) / self.rounds)
        return None

    def driver(self, course: Course) -> Driver:
        return _Rounds(self, course)


class _Rounds(Driver):
    """Keeps the weights to go back to."""

    schedule: Iterative

    def __init__(self, schedule: Iterative, course: Course) -> None:
        super().__init__(schedule, course)
        self._early: dict[str, Tensor] = {}

    def masks(self, step: int) -> Matrices | None:
        rewinds = self.schedule.rewind == "weights"
        if rewinds and step == self.schedule.rewind_to:
            state = self.course.module.state_dict()
            self._early = {name: value.detach().clone() for name, value in state.items()}
        masks = super().masks(step)
        if masks and rewinds and self._early and step > self.schedule.rewind_to:
            self.course.module.load_state_dict(self._early)
            self.course.recover()
        return masks

    def progress(self, step: int, total: int) -> float:
        if self.schedule.rewind == "none":
            return step / total
        starts = [self.schedule.start(i, self.course.steps) for i in range(self.schedule.rounds)]
        begun = max((start for start in starts if start <= step), default=0)
        end = min((start for start in starts if start > step), default=total)
        return (step - begun) / max(1, end - begun)

    def state(self) -> dict[str, Any]:
        return {"early": self._early}

    def load(self, state: dict[str, Any]) -> None:
        self._early = state["early"]
