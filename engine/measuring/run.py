"""One run of measuring: what was asked, what was found so far, and what is said meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ...kernels.dispatch.candidates import EVERY, MAY_WIN
from ...kernels.dispatch.memory import Memory
from ...kernels.dispatch.stopwatch import Stopwatch
from ..control import Stopped
from ..dependencies import first_line
from ..errors import BadInput, is_out_of_memory, nearest
from ..events import Cancelled, Event, Finished, LayerDone, Log, Progress, Started
from ..machine import describe
from ..masks import Masks
from ..models.model import Model
from ..verdicts import with_crossovers
from .bench import Bench, Task
from .request import DEFAULT_SPARSITIES, Request, Setting
from .rig import Rig
from .table import LatencyTable

Json = dict[str, Any]

_FAULTS = (RuntimeError, NotImplementedError, TypeError, ValueError, MemoryError)


class Run:
    """One call of `measure`."""

    def __init__(
        self,
        model: Model,
        masks: Masks | None,
        request: Request,
        labels: Mapping[str, str],
        memory: Memory,
    ) -> None:
        self._model, self._masks, self._request = model, masks, request
        self._labels, self._memory = labels, memory
        self._digest = model.digest()
        self._cells: list[Json] = []
        self._failed: list[Json] = []
        self._peaks: Json = {}

    def events(self, cancel: Callable[[], bool], seconds: float) -> Iterator[Event]:
        """Everything that happens, from Started to the terminal event."""

        def check() -> None:
            if cancel():
                raise Stopped

        chosen = _chosen(self._model, self._request.layers)
        stopwatch = Stopwatch(self._memory, seconds, check, exact=True)
        yield Started(f"Measuring {self._model.info.name}")
        yield from _about_waiting()
        try:
            yield from self._settings(chosen, stopwatch, check)
        except Stopped:
            yield Cancelled()
            return
        finally:
            self._save()
        yield from self._about_noise()
        yield Finished(self._result())

    def _settings(
        self, chosen: list[str], stopwatch: Stopwatch, check: Callable[[], None]
    ) -> Iterator[Event]:
        """Every setting's cells; a setting that cannot run becomes a row that says why."""
        settings = self._request.settings()
        for part, setting in enumerate(settings):
            try:
                limits = EVERY if self._request.every else MAY_WIN
                by_steps = self._request.steps
                rig = Rig(self._model, setting)
                bench = Bench(rig, stopwatch, self._digest, limits, by_steps)
                check()
                total, tasks = self._tasks(bench, chosen)
            except BadInput as error:
                if len(settings) == 1:
                    raise
                yield self._fail(setting, None, str(error))
                continue
            self._note(setting.device.type, bench.peaks.to_json())
            yield from self._about(bench, setting, first=part == 0)
            yield from self._measured(bench, setting, tasks, total, part, check)
        if not self._cells and self._failed:
            raise BadInput(self._failed[0]["error"])

    def _note(self, device: str, peaks: Json) -> None:
        """Keep a setting's peaks beside those of other dtypes, which a setting need not know."""
        before = self._peaks.get(device, {"gflops": {}, "disturbed": False})
        disturbed = before["disturbed"] or peaks["disturbed"]
        gflops = {**before["gflops"], **peaks["gflops"]}
        self._peaks[device] = {**peaks, "gflops": gflops, "disturbed": disturbed}

    def _tasks(self, bench: Bench, chosen: list[str]) -> tuple[int, Iterator[Task]]:
        if self._masks is not None and self._request.as_it_is:
            return bench.pruned(self._masks, chosen, self._labels)
        sparsities = self._request.sparsities or DEFAULT_SPARSITIES
        return bench.planned(chosen, self._request.parsed_patterns(), sparsities)

    def _measured(
        self,
        bench: Bench,
        setting: Setting,
        tasks: Iterator[Task],
        total: int,
        part: int,
        check: Callable[[], None],
    ) -> Iterator[Event]:
        """The cells of one setting; `part` is its number."""
        parts = len(self._request.settings())
        begun = time.perf_counter()
        for index, task in enumerate(tasks):
            text = f"{task.layer or 'whole model'}, {task.pattern}, {100 * task.kept:.0f} % kept"
            spent = time.perf_counter() - begun
            left = spent / index * (total * (parts - part) - index) if index else None
            yield Progress(part * total + index, parts * total, text, left)
            check()
            try:
                cell = bench.cell(task)
            except _FAULTS as error:
                yield Log(f"{text}: not measured, {_why(error)}", "warning")
                yield self._fail(setting, task, _why(error), bench)
                continue
            self._cells.append(cell)
            yield LayerDone(task.layer or "", cell)
        yield Progress((part + 1) * total, parts * total, "done", 0.0)

    def _about(self, bench: Bench, setting: Setting, first: bool) -> Iterator[Event]:
        """What cannot be measured here, said once, and as failed rows."""
        why = "a part of another module, or the example input does not reach it as one tensor"
        for path in bench.lone:
            yield self._fail(setting, None, f"cannot run alone: {why}", bench, path)
        if first and bench.lone:
            one, *others = bench.lone
            more = f" and {len(others)} more are" if others else " is"
            yield Log(f"{one}{more} not measured alone: {why}", "warning")
        for text in bench.misfits.values() if first else ():
            yield Log(text, "warning")

    def _fail(
        self,
        setting: Setting,
        task: Task | None,
        error: str,
        bench: Bench | None = None,
        path: str | None = None,
    ) -> LayerDone:
        """A row for what was not measured: a cell, a layer, or a whole setting."""
        path = task.layer if task else path
        dtype = None if setting.dtype is None else str(setting.dtype).removeprefix("torch.")
        row = {
            "model": self._model.address,
            "layer": path,
            "pattern": task.pattern if task else None,
            "kept": task.kept if task else None,
            "batch": setting.batch,
            "dtype": bench.dtype(path) if bench else dtype,
            "device": setting.device.type,
            "error": error,
        }
        self._failed.append(row)
        return LayerDone(path or "", row)

    def _about_noise(self) -> Iterator[Event]:
        open_ = sum(cell["verdict"]["kind"] == "busy" for cell in self._cells)
        disturbed = sum(cell["disturbed"] for cell in self._cells)
        if disturbed or open_:
            no_verdict = f", and {open_} have no verdict" if open_ else ""
            yield Log(
                f"this machine was busy: the times of {disturbed} of {len(self._cells)} cells are "
                f"too long{no_verdict}; measure again on a quiet one",
                "warning",
            )

    def _result(self) -> Json:
        machine = {**describe(), "peaks": self._peaks}
        saved = self._request.save if self._cells else None
        return {
            "machine": machine,
            "cells": with_crossovers(self._cells),
            "failed": self._failed,
            "table": None if saved is None else str(saved),
        }

    def _save(self) -> None:
        """Write what was measured so far as a latency table, if that was asked for."""
        if self._request.save is not None and self._cells:
            found = self._result()
            parts = found["machine"], found["cells"], found["failed"]
            LatencyTable(self._model.address, self._digest, *parts).save(self._request.save)


def _about_waiting() -> Iterator[Event]:
    waiting = os.environ.get("OMP_WAIT_POLICY", "")
    if waiting.lower() != "passive":
        yield Log(
            "OMP_WAIT_POLICY is not 'passive': while anything else runs, threads that wait by "
            "spinning make all times many times longer; set it before the program starts",
            "warning",
        )


def _why(error: BaseException) -> str:
    if isinstance(error, Exception) and is_out_of_memory(error):
        return "out of memory: a smaller batch may fit"
    return f"it could not run: {first_line(error)}"


def _chosen(model: Model, globs: Sequence[str] | None) -> list[str]:
    """Paths of the prunable layers that match; raises BadInput for a glob that matches none."""
    paths = [layer.path for layer in model.info.prunable]
    if globs is None:
        return paths
    for glob in globs:
        if not any(path == glob or fnmatchcase(path, glob) for path in paths):
            raise BadInput(f"no prunable layer matches '{glob}'{nearest(glob, paths[:200])}")
    return [p for p in paths if any(p == glob or fnmatchcase(p, glob) for glob in globs)]
