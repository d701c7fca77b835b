"""Measuring: dense against what can run faster, per layer and for the whole model.

The executed path is chosen by measuring, and staying dense is always a candidate. The dense
baseline is the faster of both memory formats. `OMP_WAIT_POLICY=passive` has to be set before torch
is loaded, which the command line does: with a busy core, waiting threads that spin make dense and
sparse alike many times slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ..control import Stopped
from ..dependencies import first_line
from ..device import pick_device
from ..errors import BadInput, nearest
from ..events import Cancelled, Event, Finished, LayerDone, Log, Progress, Started
from ..machine import describe
from ..masks import Masks
from ..models.model import Model
from ..patterns import PATTERNS
from .bench import Bench

DEFAULT_PATTERNS = ("group", "filter")
DEFAULT_SPARSITIES = (0.5, 0.75, 0.9)
_BUSY = 0.25

Json = dict[str, Any]


def measure(
    model: Model,
    masks: Masks | None = None,
    *,
    batch: int = 1,
    layers: Sequence[str] | None = None,
    patterns: Sequence[str] | None = None,
    sparsities: Sequence[float] | None = None,
    device: str = "auto",
    labels: Mapping[str, str] | None = None,
    cancel: Callable[[], bool] = lambda: False,
    seconds: float = 0.4,
) -> Iterator[Event]:
    """Measure `model`; yields events, last Finished with ``{"machine", "cells"}`` or Cancelled.

    With `masks` and neither `patterns` nor `sparsities`, the pruned model as it is: each pruned
    layer, then the whole model, as they run once removed channels are cut out and zero columns
    skipped. Else every layer that matches one of the globs in `layers` (None: all prunable) by each
    of `patterns` (plan short forms) at each of `sparsities`, with masks by magnitude, each layer
    alone on the input that it has in the model, and the whole model pruned so.

    A cell holds ``model, layer`` (None: whole model)``, pattern, kept`` (share of the weights)``,
    batch, dtype, device, ran`` (the executed path)``, dense_ms, ms, speedup, spread`` (distance of
    the quartiles as a share of the median), and ``tried``: every other path with its ``ms``.
    `labels` name the pattern of each pruned layer, where its plan is known. `seconds` is the time
    for one cell. Raises BadInput for what can't be measured.
    """
    if batch < 1:
        raise BadInput(f"batch must be at least 1, not {batch}")
    place = pick_device(device)
    chosen = _chosen(model, layers)
    asked = [PATTERNS.parse(word) for word in patterns or DEFAULT_PATTERNS]
    bench = Bench(model, batch, place, seconds, cancel)
    yield Started(f"Measuring {model.info.name}")
    try:
        if masks is not None and not patterns and not sparsities:
            total, tasks = bench.pruned(masks, chosen, labels or {})
        else:
            total, tasks = bench.planned(chosen, asked, sparsities or DEFAULT_SPARSITIES)
        for reason in bench.skipped:
            yield Log(reason, "warning")
        cells: list[Json] = []
        begun = time.perf_counter()
        for index, task in enumerate(tasks):
            text = f"{task.layer or 'whole model'}, {task.pattern}, {task.kept:.0%} kept"
            spent = time.perf_counter() - begun
            left = spent / index * (total - index) if index else None
            yield Progress(index, total, text, left)
            if cancel():
                raise Stopped
            try:
                cell = bench.cell(task)
            except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
                yield Log(f"{text}: not measured, it could not run: {first_line(error)}", "warning")
                continue
            cells.append(cell)
            yield LayerDone(task.layer or "", cell)
    except Stopped:
        yield Cancelled()
        return
    busy = sum(cell["spread"] > _BUSY for cell in cells)
    if busy > len(cells) / 4:
        yield Log(
            f"this machine was busy: in {busy} of {len(cells)} cells the times vary by more than "
            f"{_BUSY:.0%}; measure again on a quiet one",
            "warning",
        )
    yield Progress(total, total, "done", 0.0)
    yield Finished({"machine": describe(), "cells": cells})


def _chosen(model: Model, globs: Sequence[str] | None) -> list[str]:
    """Paths of the prunable layers that match; raises BadInput for a glob that matches none."""
    paths = [layer.path for layer in model.info.prunable]
    if globs is None:
        return paths
    for glob in globs:
        if not any(path == glob or fnmatchcase(path, glob) for path in paths):
            raise BadInput(f"no prunable layer matches '{glob}'{nearest(glob, paths[:200])}")
    return [p for p in paths if any(p == glob or fnmatchcase(p, glob) for glob in globs)]
