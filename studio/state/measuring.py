"""What was measured of the opened model, and what is measured next."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from ...engine import events
from ...engine.errors import BadInput
from .cells import Cell, Measurements
from .jobs import Jobs
from .kept_times import keep_times
from .wanted import Wanted


class Measuring(QObject):
    """The cells that were `found`, what is `wanted`, and the `pair` that somebody asked to see.

    `measured` says that a measurement is done, `kept` carries the report of a run whose times were
    written beside it, `failed` the event of a measurement that failed.
    """

    wanted_changed = Signal()
    pair_changed = Signal()
    measured = Signal()
    kept = Signal(dict)
    failed = Signal(object)
    notice = Signal(str, str)

    def __init__(self, jobs: Jobs, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.found = Measurements()
        self.wanted = Wanted()
        self.pair: Cell | None = None
        self._jobs = jobs

    def begin(self, cells: Iterable[Cell]) -> None:
        """Another model is open, of which only `cells`, the times kept with its run, are known."""
        self.found, self.pair = Measurements(), None
        self.found.add(cells, of_run=True)

    def want(self, wanted: Wanted) -> None:
        """What is measured from now on, unless something else is asked for."""
        self.wanted = wanted
        self.wanted_changed.emit()

    def show_pair(self, cell: Cell) -> None:
        """Bring a measured pair, dense and what ran, before the person's eyes."""
        self.pair = cell
        self.pair_changed.emit()

    def start(
        self,
        asked: dict[str, Any],
        selection: Sequence[str],
        has_run: bool,
        project: Path | None,
    ) -> None:
        """Time what is wanted, but for what is `asked`; times of a run stay with its `project`."""
        params = {**self.wanted.params(selection, has_run), **asked}
        of_run = has_run and params["patterns"] is None
        begun, count = time.monotonic(), 0

        def came(event: events.Event) -> None:
            nonlocal count
            if isinstance(event, events.LayerDone):
                count += not event.values.get("cached")
                self.found.add([event.values], of_run)
                self.found.seconds = (time.monotonic() - begun) / max(count, 1)

        def ended(event: events.Event) -> None:
            if isinstance(event, events.Finished):
                self._take(event.result, of_run, project)
            elif isinstance(event, events.Failed):
                self.failed.emit(event)

        sizes = ", ".join(map(str, params.get("batches") or [params["batch"]]))
        self._jobs.start("measure", params, f"Measure, batch {sizes}", ended, on_event=came)

    def _take(self, result: dict[str, Any], of_run: bool, project: Path | None) -> None:
        self.found.add((*result["cells"], *result.get("failed", ())), of_run)
        self.found.machine = result["machine"]
        if of_run and project is not None:
            try:
                self.kept.emit(keep_times(project, self.found))
            except (BadInput, OSError) as error:
                self.notice.emit(f"The times could not be kept with the run: {error}", "warning")
        if result.get("table"):
            self.notice.emit(f"Saved the latency table in {result['table']}", "info")
        self.measured.emit()
