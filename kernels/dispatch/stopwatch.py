"""Races held once: what is known of a question is looked up, what is not is measured and kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ..modules.steps import Step
from .memory import Memory
from .noise import Watch, in_doubt
from .race import DENSE, Form, race, winner
from .timing import Timing, time_steps

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """How long each form takes, by path; those that do not take the input are missing.

    `disturbed`: the machine was busy, so that the times are too long and their ratios are off.
    `doubtful`: too busy to say even which is faster. `remembered`: nothing was timed now.
    """

    times: Mapping[str, Timing]
    disturbed: bool = False
    doubtful: bool = False
    remembered: bool = False

    @property
    def winner(self) -> str:
        """The path of the fastest form, dense unless another one beats it beyond doubt."""
        return DENSE if self.doubtful else winner(self.times)


@dataclass(frozen=True)
class Parts:
    """How long each step of a form takes, by name. `disturbed`: the machine was busy meanwhile."""

    ms: Mapping[str, float]
    disturbed: bool = False


@dataclass(frozen=True)
class Stopwatch:
    """Times forms against each other, and remembers. `seconds` is the time for one race.

    `check` is called between samples and may raise to stop. `exact`: a remembered answer that was
    disturbed is not good enough.
    """

    memory: Memory = field(default_factory=lambda: Memory(None))
    seconds: float = 0.4
    check: Callable[[], object] = lambda: None
    exact: bool = False

    def answer(
        self,
        question: Mapping[str, Any],
        paths: Collection[str] | None,
        forms: Callable[[], Iterable[Form]],
        device: torch.device,
    ) -> Answer:
        """The times of dense and of the forms called `paths`; None: all that the question has.

        `forms` makes those of them that run, dense among them; it is called only if the answer is
        not known. A race that was disturbed or noise left in doubt is held once more; an answer in
        doubt is not remembered. Raises whatever a form raises when it runs.
        """
        known = self._known(question, paths)
        if known is not None:
            return known
        running = list(forms())
        answer = self._race(running, device)
        if answer.disturbed or answer.doubtful:
            answer = self._race(running, device)
        if not answer.doubtful:
            times = {path: timing.to_json() for path, timing in answer.times.items()}
            refused = sorted({*(paths or ())} - {*times})
            found = {"times": times, "refused": refused, "disturbed": answer.disturbed}
            self.memory.put(question, found)
        return answer

    def parts(
        self, question: Mapping[str, Any], steps: Callable[[], Sequence[Step]], device: torch.device
    ) -> Parts:
        """The times of a form's steps, in half the time of a race; `steps` makes them if needed.

        Timed once more if that was disturbed.
        """
        known = self.memory.get(question)
        if known is not None and "ms" in known and not (known["disturbed"] and self.exact):
            return Parts(known["ms"], known["disturbed"])
        made = steps()
        found = self._parts(made, device)
        if found.disturbed:
            found = self._parts(made, device)
        self.memory.put(question, asdict(found))
        return found

    def _parts(self, steps: Sequence[Step], device: torch.device) -> Parts:
        watch = Watch(device, self.memory)
        ms = time_steps(steps, seconds=self.seconds / 2, device=device.type, check=self.check)
        return Parts(ms, watch.disturbed())

    def _race(self, forms: list[Form], device: torch.device) -> Answer:
        watch = Watch(device, self.memory)
        times = race(forms, seconds=self.seconds, device=device.type, check=self.check)
        disturbed = watch.disturbed()
        return Answer(times, disturbed, in_doubt(times, DENSE, disturbed))

    def _known(self, question: Mapping[str, Any], paths: Collection[str] | None) -> Answer | None:
        """What an earlier race for the question said, if it had all of `paths`."""
        known = self.memory.get(question)
        if known is None or "times" not in known:  # an older file knows no quartiles
            return None
        if known["disturbed"] and self.exact:
            return None
        wanted = {DENSE, *(known["times"] if paths is None else paths)} - {*known["refused"]}
        if not wanted <= known["times"].keys():
            return None
        times = {path: Timing(**known["times"][path]) for path in wanted}
        return Answer(times, known["disturbed"], remembered=True)
