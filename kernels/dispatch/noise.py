"""Whether the machine was quiet enough for a comparison to mean something.

Interleaving makes noise hit all forms alike, so that a comparison survives most of it. Two things
show that it may not have: quartiles far apart (something else ran now and then), and a fixed piece
of work that takes much longer than it once did here (something else runs all the time; then the
quartiles can lie close together and all times are too long). Neither alone makes a comparison
wrong: a form whose slower runs are faster than the other's faster runs has won all the same. So it
is in doubt only where the machine was noisy *and* the quartiles overlap.

The fixed piece of work tells of a busy machine where the system's load or stolen time do not: those
count whole seconds, other containers' work, and exist on few systems.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import torch

from .host import facts
from .memory import Memory
from .timing import Timing, clock_of

NOISY = 0.25
"""Quartiles further apart than this share of the median come from a busy machine."""

SLOWED = 1.5
"""The fixed work takes this much longer than ever before only on a busy machine."""

_SIDES = {"cpu": 384, "cuda": 4096}
_SAMPLES = 5


def in_doubt(times: Mapping[str, Timing], dense: str, slowdown: float) -> bool:
    """Whether noise leaves open which is faster, dense or the best of the others."""
    others = [timing for path, timing in times.items() if path != dense]
    pair = [times[dense], *sorted(others, key=lambda timing: timing.median_ms)[:1]]
    fast, slow = min(pair, key=_median), max(pair, key=_median)
    noisy = slowdown > SLOWED or max(timing.spread for timing in pair) > NOISY
    return noisy and fast.q3 >= slow.q1


def slowdown(device: torch.device, memory: Memory) -> float:
    """How much longer a fixed product of matrices takes now than when it was the fastest here."""
    question = {"what": "calibration", **facts(device)}
    known, now = memory.get(question), fixed_work(device)
    if known is None or now < known["ms"]:
        memory.put(question, {"ms": now})
        return 1.0
    return now / float(known["ms"])


def fixed_work(device: torch.device) -> float:
    """Milliseconds of the fixed product of matrices, now."""
    side, clock = _SIDES[device.type], clock_of(device.type)
    matrix = torch.ones(side, side, device=device)
    with torch.inference_mode():
        clock(lambda: matrix @ matrix, 1)
        return statistics.median(clock(lambda: matrix @ matrix, 1) for _ in range(_SAMPLES))


def _median(timing: Timing) -> float:
    return timing.median_ms
