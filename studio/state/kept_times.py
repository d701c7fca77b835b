"""Times that stay with the run whose model they are of, and the runs that have such times."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...engine.errors import BadInput
from ...engine.project import Project, save_times
from .cells import Cell, Measurements, Setting, setting


@dataclass(frozen=True)
class KnownRun:
    """A run on disk.

    Accuracies are fractions, None without data; `whole` are the cells of the whole model.
    """

    folder: Path
    words: str
    dense: float | None
    accuracy: float | None
    sparsity: float
    whole: tuple[Cell, ...]

    def at(self, chosen: Setting) -> Cell | None:
        """Its times at a batch, dtype and device."""
        return next((cell for cell in self.whole if setting(cell) == chosen), None)


def keep_times(folder: Path, found: Measurements) -> dict[str, Any]:
    """Write the run's times into its project; gives its report.

    Raises BadInput where the folder is not to be found here, as with an engine far away.
    """
    return save_times(folder, {"machine": found.machine, "cells": found.of_run()})


def times_of(report: dict[str, Any] | None, hello: dict[str, Any] | None) -> list[Cell]:
    """The times in a report, unless they are of another machine than the engine's."""
    measured = (report or {}).get("measured") or {}
    here = (hello or {}).get("machine")
    same = here is not None and _name(measured.get("machine")) == _name(here)
    return list(measured.get("cells") or ()) if same else []


class KnownRuns:
    """The finished runs on disk; each is read once, and again after it has changed."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[float, tuple[str, KnownRun] | None]] = {}

    def of(self, address: str, folders: Iterable[Path]) -> list[KnownRun]:
        """The runs of the model at `address` among `folders`; what is damaged is left out."""
        found = []
        for folder in folders:
            try:
                written = (folder / "report.json").stat().st_mtime
            except OSError:
                continue
            if folder not in self._read or self._read[folder][0] != written:
                self._read[folder] = written, _read(folder)
            known = self._read[folder][1]
            if known is not None and known[0] == address:
                found.append(known[1])
        return found


def _read(folder: Path) -> tuple[str, KnownRun] | None:
    try:
        project = Project.open(folder)
        report = project.report()
        return None if report is None else (project.address, _run(folder, report))
    except (BadInput, OSError, KeyError, TypeError, ValueError):
        return None


def _run(folder: Path, report: dict[str, Any]) -> KnownRun:
    accuracy = report.get("accuracy") or {}
    patterns = list(dict.fromkeys(str(layer["pattern"]) for layer in report["layers"]))
    cells = (report.get("measured") or {}).get("cells") or ()
    sparsity = float(report["sparsity"])
    return KnownRun(
        folder=folder,
        words=f"{', '.join(patterns[:3])} · {sparsity * 100:.0f} % zeros",
        dense=accuracy.get("dense"),
        accuracy=accuracy.get("pruned"),
        sparsity=sparsity,
        whole=tuple(cell for cell in cells if cell["layer"] is None),
    )


def _name(machine: dict[str, Any] | None) -> str:
    machine = machine or {}
    parts = (machine.get("cpu"), machine.get("threads"), (machine.get("cuda") or {}).get("name"))
    return json.dumps(parts)
