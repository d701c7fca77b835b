"""The kernels' loops for the CPU, compiled ahead by a process beside this one.

Once for a machine and a version that takes some seconds, in which nothing could be cancelled and
nothing would move if a job's first use of a loop compiled it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from ..kernels.compiled.ahead import filled
from .events import Event, Progress
from .plan import Plan

WORDS = "Preparing compiled loops (once on this machine)…"

_LOOK_SECONDS = 0.05
_WINDOWS_PRIORITY = getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0)


class CompiledLoops:
    """Starts that process where loops are missing; the loops are on disk when it has ended.

    It is started once. If it fails, a loop is compiled where it is first used, as in a notebook.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Begin to compile what is missing, at low priority; returns at once."""
        if self._process is None and not filled():
            self._process = subprocess.Popen(
                _command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                creationflags=_WINDOWS_PRIORITY,
                start_new_session=True,  # Ctrl+C is for this process alone
            )

    def ahead_of(self, job: Iterable[Event], cancelled: Callable[[], bool]) -> Iterator[Event]:
        """The job's events; once it has begun it waits until nothing is missing, and says so.

        A job that was `cancelled` meanwhile goes on at once, to its own end.
        """
        events = iter(job)
        yield from islice(events, 1)
        self.prepare()
        if self._going:
            yield Progress(0, 0, WORDS)
        while self._going and not cancelled():
            time.sleep(_LOOK_SECONDS)
        yield from events

    def stop(self) -> None:
        """Leave no process behind; what it has compiled stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def _going(self) -> bool:
        return self._process is not None and self._process.poll() is None


def with_loops(job: Iterable[Event], cancelled: Callable[[], bool]) -> Iterator[Event]:
    """`CompiledLoops.ahead_of` for a program that does nothing else: no process is left behind."""
    loops = CompiledLoops()
    try:
        yield from loops.ahead_of(job, cancelled)
    finally:
        loops.stop()


def used_by(plan: Plan) -> bool:
    """Whether a run of the plan needs loops: to choose N of every M, or to train in CSR."""
    patterns = {rule.pattern.kind for rule in plan.rules}
    return "nm" in patterns or plan.schedule.kind == "sparse-training"


def _command() -> list[str]:
    """In a frozen build the program itself, else this Python."""
    program = [] if getattr(sys, "frozen", False) else ["-m", "secateur.engine"]
    return [sys.executable, *program, "engine", "--prepare"]
