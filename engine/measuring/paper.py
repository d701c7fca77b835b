"""S1's tables 1 to 8 on this machine: whole networks, their layers in each form, against dense.

Two baselines: the framework's own convolutions and linear layers, the better of both memory
formats, which is what anyone has without this program; and S1's, a dense im2col and GEMM, against
which S1's figures stand. Whole networks run end to end with their layers replaced.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.dispatch.candidates import GATHER
from ...kernels.dispatch.dispatcher import Dispatcher
from ...kernels.dispatch.memory import Memory
from ...kernels.dispatch.noise import Watch
from ...kernels.dispatch.race import DENSE, race
from ...kernels.dispatch.timing import Timing
from ..control import Stopped
from ..dependencies import first_line
from ..device import pick_device
from ..errors import BadInput, is_out_of_memory
from ..events import Cancelled, Event, Finished, LayerDone, Log, Progress, Started
from ..machine import describe
from ..paper.published import published
from ..paper.words import FORMS
from .off_the_shelf import IM2COL, SELECT, GemmLayer, SparseProduct, sparse_path
from .paper_cells import figures, fused
from .paper_layers import LAYERS, SPARSITIES, layer_cells
from .paper_models import KEPT, Data, Network, Subject, networks

Json = dict[str, Any]
BLOCK = 16
PATTERN_OF = {
    "element": "element",
    "vector": "vector:4",
    "block": f"block:{BLOCK}x{BLOCK}",
    "group": "group",
    "select": "group",
    "gather": "group",
    "ours": "group",
}
"""The pattern that each of `FORMS` runs."""

# Seconds that a round of a race may take: longer ones are held at a smaller batch only.
_LONGEST = 3.0


@dataclass(frozen=True)
class Task:
    """One cell to come."""

    form: str
    kept: float
    data: Data
    batch: int


def paper(
    models: tuple[str, ...] | None = None,
    *,
    device: str = "auto",
    batches: tuple[int, ...] | None = None,
    seconds: float = 0.4,
    layers: bool = True,
    cancel: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Measure S1's tables; yields events, last Finished or Cancelled.

    `models` are names of `paper_models.NETWORKS`, None for all. `batches` None: 1 and 8 on the CPU,
    8 on each network's smallest data only; 1, 8 and 64 on a GPU. `seconds` is the time for one
    cell. `layers` also measures the single layers of figures 11 to 14.

    The result holds ``machine, cells, failed, layers, published, notes`` and ``table`` (None).
    Cells are those of `measure`, ``ran`` being the form that the cell is about, also where it is
    slower than dense; besides ``form`` (a key of `FORMS`)``, asked`` (0.75, 0.5 or 0.25 kept)``,
    data`` and ``input``. The time of S1's baseline stands in ``tried``. Raises BadInput for an
    unknown model or device.
    """
    place = pick_device(device)
    chosen = networks(models)
    smaller, larger = _batches(place) if batches is None else (batches, batches)
    if min(smaller) < 1:
        raise BadInput(f"batch must be at least 1, not {min(smaller)}")
    bench = PaperBench(place, seconds, cancel)
    yield Started("Measuring the tables of the paper")
    plans = [(network, tasks(network, smaller, larger)) for network in chosen]
    total = sum(len(planned) for _, planned in plans) + layers * len(LAYERS) * len(SPARSITIES)
    done, begun = 0, time.perf_counter()

    def progress(text: str) -> Progress:
        spent = time.perf_counter() - begun
        return Progress(done, total, text, spent / done * (total - done) if done else None)

    result: Json = {
        "machine": describe(),
        "cells": [],
        "failed": [],
        "layers": [],
        "published": published(tuple(network.name for network in chosen)),
        "notes": [],
        "table": None,
    }
    try:
        for network, planned in plans:
            yield progress(f"{network.title}: building")
            subject = Subject(network, place)
            result["notes"] += bench.notes(subject)
            for task in planned:
                yield progress(bench.words(network, task))
                row = bench.row(subject, task)
                result["failed" if "error" in row else "cells"].append(row)
                done += 1
                yield LayerDone("", row)
                if "error" in row:
                    yield Log(f"{bench.words(network, task)}: {row['error']}", "warning")
            bench.forget()
        for row in layer_cells(place, bench.memory, seconds, bench.check) if layers else ():
            result["failed" if "error" in row else "layers"].append(row)
            if row.get("form") in (None, "select"):  # once for each layer and sparsity
                done += 1
                yield progress(f"{row['layer']}, {1 - row['kept']:.0%} sparse")
            yield LayerDone(row["layer"], row)
    except Stopped:
        yield Cancelled()
        return
    yield Progress(total, total, "done", 0.0)
    yield Finished(result)


def _batches(device: torch.device) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of each network's smallest data, and of its larger ones, which a CPU takes too long for."""
    return ((1, 8, 64), (1, 8, 64)) if device.type == "cuda" else ((1, 8), (1,))


def tasks(network: Network, smaller: tuple[int, ...], larger: tuple[int, ...]) -> list[Task]:
    """The cells of a network, so that what is built once is used by all that need it."""
    return [
        Task(form, kept, data, batch)
        for kept in KEPT
        for form in FORMS
        for data in network.data
        if kept in data.kept
        for batch in sorted(smaller if data is network.data[0] else larger)
    ]


class PaperBench:
    """Times the forms of one network after the other; keeps what several cells need."""

    def __init__(self, device: torch.device, seconds: float, cancel: Callable[[], bool]) -> None:
        self._device, self._seconds = device, seconds
        self._cancel = cancel
        self._masks: tuple[object, dict[str, Tensor]] | None = None
        self._built: tuple[object, nn.Module] | None = None
        self._im2col: nn.Module | None = None
        self._rounds: dict[tuple[str, float, str], tuple[int, float]] = {}
        self.memory = Memory(None)

    def words(self, network: Network, task: Task) -> str:
        """What is measured, for the person who waits."""
        about = f"{FORMS[task.form]}, {task.kept:.0%} kept"
        return f"{network.title}, {about}, {task.data.name}, batch {task.batch}"

    def notes(self, subject: Subject) -> list[str]:
        """What to know about a network's cells."""
        name = subject.network.title
        found = [f"{name} has random weights: its times do not depend on them, its accuracy would"]
        if subject.left_out:
            found.append(
                f"{name}: {subject.left_out} matrices inside attention modules cannot be replaced "
                "and stay dense; shares are of the other layers' weights"
            )
        return found

    def check(self) -> None:
        """Raise Stopped once cancelled."""
        if self._cancel():
            raise Stopped

    def forget(self) -> None:
        """Free what belongs to the network."""
        self._masks = self._built = self._im2col = None
        self._rounds.clear()

    def row(self, subject: Subject, task: Task) -> Json:
        """The cell of a task, or with ``error`` why there is none; raises Stopped."""
        self.check()
        row = {
            "model": subject.network.name,
            "layer": None,
            "pattern": PATTERN_OF[task.form],
            "kept": task.kept,
            "batch": task.batch,
            "dtype": "float32",
            "device": self._device.type,
            "form": task.form,
            "asked": task.kept,
            "data": task.data.name,
            "input": task.data.words,
        }
        too_long = self._too_long(task)
        if too_long:
            return {**row, "error": too_long}
        try:
            masks = self._masks_for(subject, task)
            path, module = self._runs(subject, task, masks)
            watch = Watch(self._device, self.memory)
            times = self._race(subject, task, path, module)
            disturbed = watch.disturbed()
        except (
            RuntimeError, NotImplementedError, TypeError, ValueError, MemoryError,
        ) as error:  # fmt: skip
            why = "does not fit in memory" if is_out_of_memory(error) else first_line(error)
            return {**row, "error": why}
        round_ms = sum(timing.median_ms for timing in times.values())
        self._rounds[task.form, task.kept, task.data.name] = task.batch, round_ms
        return {**row, "kept": subject.kept(masks), **figures(times, path, disturbed)}

    def _too_long(self, task: Task) -> str | None:
        known = self._rounds.get((task.form, task.kept, task.data.name))
        if known is None:
            return None
        batch, ms = known
        expected = ms * task.batch / batch / 1e3
        if expected <= _LONGEST:
            return None
        return (
            f"a pass of it and of both baselines would take about {expected:.0f} s, more than "
            f"{_LONGEST:.0f} s; measured at batch {batch}"
        )

    def _masks_for(self, subject: Subject, task: Task) -> dict[str, Tensor]:
        key = PATTERN_OF[task.form], task.kept
        if self._masks is None or self._masks[0] != key:
            self._masks = key, subject.masks(*key)
        return self._masks[1]

    def _runs(
        self, subject: Subject, task: Task, masks: dict[str, Tensor]
    ) -> tuple[str, nn.Module]:
        """The executed path, and the network with its layers so."""
        if task.form == "ours":
            return self._chosen(subject, task, masks)
        path, make = self._maker(task.form)
        key = task.form, task.kept
        if self._built is None or self._built[0] != key:
            self._built = None
            self._built = key, subject.with_layers(masks, make)
        return path, self._built[1]

    def _maker(self, form: str) -> tuple[str, Callable[[nn.Module, Tensor], nn.Module]]:
        if form == "select":
            return SELECT, GemmLayer
        if form == "gather":
            return GATHER, fused
        block = BLOCK if form == "block" else 1
        return sparse_path(block, self._device), partial(SparseProduct, block=block)

    def _chosen(
        self, subject: Subject, task: Task, masks: dict[str, Tensor]
    ) -> tuple[str, nn.Module]:
        """What the program would run: each layer in the form that measured fastest on its input."""
        dispatcher = Dispatcher(self.memory, self._seconds / 4, self.check)
        args, kwargs = subject.call(task.data, task.batch)
        module, choices = dispatcher.accelerate(subject.pruned(masks), args, kwargs)
        won = sum(choice.path != DENSE for choice in choices.values())
        if not won:
            return DENSE, module
        return f"grouped in {won} of {len(subject.rows)} layers", module

    def _race(
        self, subject: Subject, task: Task, path: str, module: nn.Module
    ) -> dict[str, Timing]:
        if self._im2col is None:
            every = {name: torch.ones(0) for name in subject.rows}
            self._im2col = subject.with_layers(every, lambda layer, _: GemmLayer(layer))
        raced = {DENSE: subject.module, IM2COL: self._im2col, path: module}
        forms = [subject.form(name, each, task.data, task.batch) for name, each in raced.items()]
        return race(forms, seconds=self._seconds, device=self._device.type, check=self.check)
