"""Timing several ways to do one thing side by side, so that noise hits all of them alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import torch

# A sample lasts at least this long, so that the clock and the loop around it don't count.
_SAMPLE_MS = 0.5
_WARM_UP = 3
_FEWEST, _MOST = 7, 101
# Rounds so long that seven of them would take many times what was asked for: at least so many.
_FEWEST_LONG, _OVERTIME = 4, 3.0

Name = TypeVar("Name", bound=Hashable)
Clock = Callable[[Callable[[], object], int], float]
"""Milliseconds that so many calls take."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call: the median and the quartiles of `n` samples."""

    median_ms: float
    q1: float
    q3: float
    n: int

    @property
    def spread(self) -> float:
        """Distance of the quartiles as a share of the median."""
        return (self.q3 - self.q1) / self.median_ms if self.median_ms else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, ``Timing(**values)`` again."""
        return asdict(self)


def time_interleaved(
    candidates: Mapping[Name, Callable[[], object]],
    *,
    seconds: float = 0.5,
    device: str = "cpu",
    check: Callable[[], object] = lambda: None,
) -> dict[Name, Timing]:
    """Time the candidates in turn, round after round, every other round backwards.

    Warms each up first. Takes about `seconds` in all, but at least 7 and at most 101 rounds; of
    long calls at least 4, and no more once three times `seconds` have gone. On ``"cuda"`` the
    device's own events are the clock. Runs in inference mode. `check` is called between two
    samples, so that it can raise what ends the timing.
    """
    clock = clock_of(device)
    names = list(candidates)
    with torch.inference_mode():
        shortest = dict.fromkeys(names, math.inf)
        for name in names:
            for _ in range(_WARM_UP):
                check()
                shortest[name] = min(shortest[name], clock(candidates[name], 1))
                if shortest[name] > seconds * 1e3 / _FEWEST:
                    break  # long, or a first call that compiles; no sample has that in it
        samples: dict[Name, list[float]] = {name: [] for name in names}
        begun = time.perf_counter()
        for index in range(_MOST):
            spent = time.perf_counter() - begun
            fewest = _FEWEST if spent < _OVERTIME * seconds else _FEWEST_LONG
            if index >= fewest and spent > seconds:
                break
            for name in reversed(names) if index % 2 else names:
                check()
                calls = max(1, round(_SAMPLE_MS / max(shortest[name], 1e-4)))
                samples[name].append(took := clock(candidates[name], calls) / calls)
                shortest[name] = min(shortest[name], took)
    return {name: _timing(samples[name]) for name in names}


def time_steps(
    steps: Sequence[tuple[str, Callable[[], object]]],
    *,
    seconds: float = 0.2,
    device: str = "cpu",
    check: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Milliseconds of the steps by name, those of one name together; arguments as above.

    Each step is timed by itself, interleaved with the others, so that noise changes none alone.
    """
    calls = {index: call for index, (_, call) in enumerate(steps)}
    timings = time_interleaved(calls, seconds=seconds, device=device, check=check)
    total: dict[str, float] = {}
    for index, (name, _) in enumerate(steps):
        total[name] = total.get(name, 0.0) + timings[index].median_ms
    return total


def clock_of(device: str) -> Clock:
    """The device's own clock: its events on a GPU, the system's fine clock on the CPU."""
    return _cuda_ms if device.startswith("cuda") else _cpu_ms


def _cpu_ms(call: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) * 1e3


def _cuda_ms(call: Callable[[], object], times: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(times):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end))


def _timing(samples: list[float]) -> Timing:
    q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
    return Timing(median, q1, q3, len(samples))
