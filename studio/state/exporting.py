"""The export of a pruned model, and what came of the last one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from ...engine import events
from .client import FAULT
from .jobs import Jobs


class Exporting(QObject):
    """Has files written by the engine.

    `result` is what the engine says of the last one, or ``{"error", "path"}``; `done` carries it.
    """

    done = Signal(dict)

    def __init__(self, jobs: Jobs, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.result: dict[str, Any] | None = None
        self._jobs = jobs

    def start(self, project: Path | None, format: str, path: Path, level: float | None) -> None:
        """Write the model of a run; `level` is one of its nested levels, None its loosest."""

        def ended(event: events.Event) -> None:
            if isinstance(event, events.Finished):
                self.result = event.result
                self.done.emit(event.result)
            elif isinstance(event, events.Failed):
                message = FAULT if event.detail else event.message
                self.result = {"error": message, "path": str(path)}
                self.done.emit(self.result)

        params = {"project": str(project), "format": format, "out": str(path), "level": level}
        self._jobs.start("export", params, f"Exporting {path.name}", ended, shown=False)
