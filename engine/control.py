"""How the outside stops or pauses a job: a flag that is checked at every layer and batch."""

from __future__ import annotations

import threading


class Stopped(Exception):
    """The job was asked to stop."""


class Control:
    """Cancel and pause for one job; safe to call from any thread."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self._going = threading.Event()
        self._going.set()

    def cancel(self) -> None:
        """Ask the job to stop at the next check, also while it is paused."""
        self._cancelled.set()
        self._going.set()

    def pause(self) -> None:
        """Let the job wait at the next check."""
        self._going.clear()

    def unpause(self) -> None:
        """Let a paused job go on."""
        self._going.set()

    def cancelled(self) -> bool:
        """Whether the job was asked to stop."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Wait while paused; raise Stopped once cancelled."""
        self._going.wait()
        if self._cancelled.is_set():
            raise Stopped
