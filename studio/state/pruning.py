"""The run of a plan, and what it takes to go on with one that was stopped."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QObject, Signal

from ...engine import events
from ...engine.plan import Plan
from .jobs import Jobs
from .plan_edits import title


class Pruning(QObject):
    """Has plans run by the engine. `interrupted` is the folder and the plan of an unfinished run.

    `finished` carries the report and the folder, `consent_needed` the address of a loader and what
    to ask of the person, `failed` the event.
    """

    finished = Signal(dict, object)
    consent_needed = Signal(str, str)
    failed = Signal(object)

    def __init__(self, jobs: Jobs, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.interrupted: tuple[Path, Plan] | None = None
        self._agreed: set[str] = set()
        self._jobs = jobs

    @property
    def has_checkpoint(self) -> bool:
        """Whether the unfinished run left something to go on from."""
        return self.interrupted is not None and (self.interrupted[0] / "checkpoint.pt").exists()

    def agree_to_data(self, address: str) -> None:
        """Let runs call the loader at this address, until the studio is closed."""
        self._agreed.add(address)

    def start(self, out: Path, plan: Plan, resume: bool = False) -> None:
        """Run the plan into a folder; `resume` from its checkpoint."""
        self.interrupted = (out, plan)
        data = (plan.training.data if plan.training else None) or ""

        def ended(event: events.Event) -> None:
            if isinstance(event, events.Finished):
                self.interrupted = None
                self.finished.emit(event.result, out)
            elif isinstance(event, events.Failed) and event.consent:
                self.interrupted = None
                self.consent_needed.emit(data, event.message)
            elif isinstance(event, events.Failed):
                self.failed.emit(event)

        params = {"plan": plan.to_json(), "out": str(out), "device": "auto", "resume": resume}
        params["trust_data"] = data in self._agreed
        number = out.name.rpartition("-")[2]
        self._jobs.start("prune", params, f"Run {number} · {title(plan)}", ended)
