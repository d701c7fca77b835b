"""Measuring: dense against what can run faster, per layer and for the whole model.

The executed path is chosen by measuring, and staying dense is always a candidate. The dense
baseline is the faster of both memory formats. `OMP_WAIT_POLICY=passive` has to be set before torch
is loaded, which the command line does: with a busy core, waiting threads that spin make dense and
sparse alike many times slower.

Layers of one shape whose zeros lie alike share an answer, in this run and with earlier ones, and
with `secateur.accelerate`. Only answers that noise left in no doubt are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ...kernels.dispatch.memory import Memory
from ..events import Event
from ..masks import Masks
from ..models.model import Model
from .request import Request
from .run import Run


def measure(
    model: Model,
    masks: Masks | None = None,
    request: Request | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    memory: Memory | None = None,
    cancel: Callable[[], bool] = lambda: False,
    seconds: float = 0.4,
) -> Iterator[Event]:
    """Measure `model`; yields events, last Finished with the result, or Cancelled.

    With `masks` and neither patterns nor sparsities asked for, the pruned model as it is: each
    pruned layer, then the whole model, as they run once removed channels are cut out and zero
    columns skipped. Else every chosen layer by each pattern at each sparsity, with masks by
    magnitude, each layer alone on the input that it has in the model, and the whole model pruned
    so. All of it in every setting (device, dtype, batch) that is asked for.

    The result is ``{"machine", "cells", "failed", "table"}``. A cell holds ``model, layer`` (None:
    whole model)``, pattern, kept`` (share of the weights)``, batch, dtype, device, ran`` (the
    executed path)``, dense_ms, ms``, their quartiles ``dense_q1_ms, dense_q3_ms, q1_ms, q3_ms,
    speedup, spread`` (distance of the quartiles as a share of the median)``, tried`` (every other
    path with its times)``, roofline`` (None, or ``operations, bytes, limit_ms, share, bound`` and
    ``disturbed``: the limits were measured on a busy machine)``, steps`` (of each path its
    ``parts`` and whether it was ``disturbed``)``, verdict`` (``kind, words``)``, crossover`` (a
    sparsity or None; known at the end)``, disturbed`` (the machine was busy) and ``cached``. What
    could not be measured is in ``failed``, with ``error`` instead of times.

    `labels` name the pattern of each pruned layer, where its plan is known. `memory` holds earlier
    answers; None remembers nothing. `seconds` is the time for one cell. `cancel` is asked between
    samples; only a single call or the making of masks takes longer. Raises BadInput for what can't
    be measured at all.
    """
    run = Run(model, masks, request or Request(), labels or {}, memory or Memory(None))
    return run.events(cancel, seconds)
