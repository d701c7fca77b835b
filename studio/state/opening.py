"""The opening of a model, and of the same one again in a fresh engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from ...engine import events
from ...engine.plan import Plan
from .jobs import Jobs


class Opening(QObject):
    """Has models opened by the engine. `arch` and `trust` are those of the model that is open.

    `opened` carries what the engine says of a model and the plan to begin with, if any; `reopened`
    says that a fresh engine has the model too. `consent_needed` carries the address of a file whose
    code would run and what to ask of the person, `failed` the event.
    """

    opened = Signal(dict, object)
    reopened = Signal()
    consent_needed = Signal(str, str)
    failed = Signal(object)

    def __init__(self, jobs: Jobs, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.arch: str | None = None
        self._trust = False
        self._jobs = jobs

    def start(self, address: str, arch: str | None, trust: bool, plan: Plan | None) -> None:
        """Open a model address or a project folder; `trust` runs a pickle's code."""

        def ended(event: events.Event) -> None:
            if isinstance(event, events.Finished):
                self.arch, self._trust = arch, trust
                self.opened.emit(event.result, plan)
            else:
                self._not_opened(address, event)

        self._start(address, arch, trust, ended)

    def again(self, address: str) -> None:
        """Open it as before, in an engine that does not have it yet."""

        def ended(event: events.Event) -> None:
            if isinstance(event, events.Finished):
                self.reopened.emit()
            else:
                self._not_opened(address, event)

        self._start(address, self.arch, self._trust, ended)

    def _start(
        self, address: str, arch: str | None, trust: bool, ended: Callable[[events.Event], None]
    ) -> None:
        params = {"address": address, "arch": arch, "trust": trust}
        name = Path(address).name or address
        self._jobs.start("open", params, f"Opening {name}", ended, shown=False)

    def _not_opened(self, address: str, event: events.Event) -> None:
        if isinstance(event, events.Failed) and event.consent:
            self.consent_needed.emit(address, event.message)
        elif isinstance(event, events.Failed):
            self.failed.emit(event)
