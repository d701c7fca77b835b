"""Whether the machine was quiet enough for a comparison to mean something.

Interleaving makes noise hit all forms alike, so that *which* is faster survives most of it. *By how
much* does not: of two forms the longer one is interrupted more often, and on a machine that does
something else all the time a factor of two measured as six. Three things tell:

- how long this process's threads were ready to run and were not let: the system's own word for a
  busy machine, where it has one (Linux; in a container too);
- a fixed piece of work that takes much longer than it once did here: for other systems, for time
  that a hypervisor gives to other machines, and for a GPU that others use. Load averages count
  whole seconds and other containers' work, so they are not asked;
- quartiles far apart, whatever the reason.

A race that was disturbed is held once more. If that one is, too, its factor is not to be believed;
and where the quartiles of dense and the best rival overlap, nothing is claimed at all. A form whose
slower runs are faster than the other's faster runs has won all the same.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

import torch

from .host import facts
from .memory import Memory
from .timing import Timing, clock_of

NOISY = 0.25
"""Quartiles further apart than this share of the median come from a busy machine."""

SLOWED = 1.5
"""The fixed work takes this much longer than ever before only on a busy machine."""

WAITED = 0.1
"""Share of the time that threads were kept waiting; on a quiet machine below 0.02."""

_SIDES = {"cpu": 384, "cuda": 4096}
_SAMPLES = 5
_THREADS = Path("/proc/self/task")


class Watch:
    """Looks at the machine from when it is made until it is asked."""

    def __init__(self, device: torch.device, memory: Memory) -> None:
        self._device, self._memory = device, memory
        self._before = slowdown(device, memory)
        self._threads = _threads()

    def disturbed(self) -> bool:
        """Whether something else kept the machine busy meanwhile."""
        run = waited = 0
        for thread, (ran, waits) in _threads().items():
            ran_before, waits_before = self._threads.get(thread, (0, 0))
            run, waited = run + ran - ran_before, waited + waits - waits_before
        if waited > WAITED * (run + waited):
            return True
        return max(self._before, slowdown(self._device, self._memory)) > SLOWED


def in_doubt(times: Mapping[str, Timing], dense: str, disturbed: bool) -> bool:
    """Whether noise leaves open which is faster, dense or the best of the others.

    Nothing is open where there are no others.
    """
    others = [timing for path, timing in times.items() if path != dense]
    if not others:
        return False
    pair = times[dense], min(others, key=_median)
    fast, slow = sorted(pair, key=_median)
    noisy = disturbed or max(fast.spread, slow.spread) > NOISY
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


def _threads() -> dict[str, tuple[int, int]]:
    """Nanoseconds that each of this process's threads ran, and was ready and did not run.

    Empty where the system does not say.
    """
    found = {}
    for file in _THREADS.glob("*/schedstat"):
        try:
            run, waited, _ = map(int, file.read_text().split())
        except (OSError, ValueError):  # a thread that has ended
            continue
        found[file.parent.name] = run, waited
    return found


def _median(timing: Timing) -> float:
    return timing.median_ms
