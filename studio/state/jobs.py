"""The one heavy job that the engine does at a time, from the studio's side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from ...engine import events
from .client import EngineClient
from .run_state import RunState, advance

FRAME_MS = 33
"""Progress repaints at most 30 times a second; terminal events at once."""


class Jobs(QObject):
    """Starts a job, follows it as a `RunState`, and calls back exactly once at its end.

    `changed` (latest wins) says that `run` is new, `masks` that the engine's masks are. `ended` is
    given by the caller of `start` and gets the terminal event.
    """

    changed = Signal()
    masks = Signal()

    def __init__(self, client: EngineClient, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.run = RunState()
        self._client = client
        self._job: int | None = None
        self._state = RunState()
        self._shown = True
        self._ended: Callable[[events.Event], None] | None = None
        self._on_event: Callable[[events.Event], None] | None = None
        self._masks_new = False
        self._cancel_early = False
        self._timer = QTimer(self, singleShot=True, interval=FRAME_MS)
        self._timer.timeout.connect(self._flush)
        client.job_event.connect(self._event)

    @property
    def active(self) -> bool:
        """Whether a job is under way (or asked for)."""
        return self._ended is not None

    @property
    def kind(self) -> str:
        """The kind of the job that is under way, else empty."""
        return self._state.kind if self.active else ""

    @property
    def title(self) -> str:
        """What is under way, in words, else empty."""
        return self._state.title if self.active else ""

    def start(
        self,
        kind: str,
        params: dict[str, Any],
        title: str,
        ended: Callable[[events.Event], None],
        *,
        on_event: Callable[[events.Event], None] | None = None,
        shown: bool = True,
    ) -> None:
        """Start a job. `shown`: it becomes `run`; otherwise only `ended` hears of it."""
        self._ended, self._on_event, self._shown = ended, on_event, shown
        self._job, self._cancel_early = None, False
        self._state = RunState(kind=kind, title=title, state="running", text="starting")
        self._publish()
        self._client.start_job(kind, params, self._started, self._refused)

    def cancel(self) -> None:
        """Ask the job to stop; the client ends an engine that does not."""
        if self._job is not None:
            self._client.cancel(self._job)
        elif self.active:
            self._cancel_early = True

    def pause(self, paused: bool) -> None:
        """Ask the job to wait, or to go on."""
        if self._job is None or not self._shown:
            return
        job, state = self._job, "paused" if paused else "running"

        def answered(result: object, arrays: object) -> None:
            if self._job == job and self._state.active:
                self._state = replace(self._state, state=state)
                self._publish()

        self._client.request("pause" if paused else "unpause", {"job": job}, answered)

    def lost(self, reason: str) -> None:
        """The engine has gone: the job under way has failed for `reason`."""
        if self.active:
            self._end(events.Failed(reason))

    def show(self, run: RunState) -> None:
        """Show a run that is over, as after opening another model; an empty one for none."""
        self.run = run
        self.changed.emit()

    def _started(self, job: int) -> None:
        self._job = job
        if self._cancel_early:
            self._client.cancel(job)

    def _refused(self, message: str) -> None:
        if self.active:
            self._end(events.Failed(message, bad_input=True))

    def _event(self, job: int, event: events.Event) -> None:
        if job != self._job or not self.active:
            return
        if event.terminal:
            self._end(event)
            return
        self._state = advance(self._state, event, _now())
        if isinstance(event, events.MaskChanged) or (
            isinstance(event, events.LayerDone) and "achieved" in event.values
        ):
            self._masks_new = True
        if self._on_event is not None:
            self._on_event(event)
        if not self._timer.isActive():
            self._timer.start()

    def _end(self, event: events.Event) -> None:
        ended, self._ended = self._ended, None
        self._job = None
        self._state = advance(self._state, event, _now())
        self._timer.stop()
        self._flush()
        if ended is not None:
            ended(event)

    def _flush(self) -> None:
        self._publish()
        if self._masks_new:
            self._masks_new = False
            self.masks.emit()

    def _publish(self) -> None:
        if self._shown:
            self.run = self._state
        self.changed.emit()


def _now() -> str:
    return datetime.now().strftime("%H:%M:%S")
