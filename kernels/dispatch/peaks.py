"""What this machine can do at best, measured: the roof of the roofline."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn import functional as F

from ..modules.work import Work
from .host import facts
from .memory import Memory
from .noise import Watch, fixed_work
from .timing import clock_of

Json = dict[str, Any]
Call = Callable[[], object]
Make = Callable[[int, torch.device, torch.dtype], tuple[Call, int]]
"""A call of some size, and its operations."""

# Of the product, of the convolution's image of as many channels, and entries of the copy: too large
# for the caches, a few milliseconds each. A CPU that only emulates a dtype takes seconds for them,
# and as long for its share of smaller ones.
_LARGE = {"cpu": (1024, 56), "cuda": (8192, 128)}
_SMALL = (256, 8)
_CHANNELS, _SLOW_MS = 256, 5.0
_COPIED = {"cpu": 1 << 24, "cuda": 1 << 28}
# The best of so many, fewer where they take long: what disturbs only ever slows down.
_SAMPLES, _LONGEST_MS = 9, 200.0
_QUIETER = 0.75


@dataclass(frozen=True)
class Peaks:
    """Billions of operations a second by dtype, and of bytes read or written a second.

    `disturbed`: the machine was busy, so that they may be too low.
    """

    gflops: dict[str, float]
    gb_per_s: float
    disturbed: bool = False

    def to_json(self) -> Json:
        """``{"gflops": {dtype: ..}, "gb_per_s": .., "disturbed": ..}``."""
        return asdict(self)

    def roofline(self, work: Work, dtype: str, ms: float) -> Json | None:
        """How near `ms` comes to the least time that this work can take; None for unknown dtypes.

        `share` is above 1 where the data stays in the caches: the roof is that of main memory.
        It is too high where the roof was ``disturbed``.
        """
        if dtype not in self.gflops or not work.operations:
            return None
        computing = work.operations / self.gflops[dtype] / 1e6
        moving = work.bytes / self.gb_per_s / 1e6
        limit = max(computing, moving)
        return {
            "operations": work.operations,
            "bytes": work.bytes,
            "limit_ms": limit,
            "share": limit / ms,
            "bound": "compute" if computing >= moving else "memory",
            "disturbed": self.disturbed,
        }


def peaks(device: torch.device, dtypes: Iterable[str], memory: Memory) -> Peaks:
    """The best of a large product or convolution per dtype, and of a large copy.

    Measured once per machine and kept in `memory`; about a second on the CPU. Anew where the
    machine is much quieter than it was then. What was disturbed is measured again at every call
    until it is not, and the better figure is kept. A dtype that the device cannot multiply is left
    out.
    """
    question, now = {"what": "peaks", **facts(device)}, fixed_work(device)
    known = memory.get(question)
    if known is None or now < _QUIETER * known["fixed_ms"]:
        known = {"gflops": {}, "gb_per_s": 0.0, "fixed_ms": now, "disturbed": True}
    gflops, again = known["gflops"], known.get("disturbed", True)  # an older file does not say
    missing = [dtype for dtype in dtypes if dtype not in gflops]
    wanted = dict.fromkeys([*gflops, *missing] if again else missing)
    if again or wanted:
        watch = Watch(device, memory)
        found = {dtype: _gflops(device, getattr(torch, dtype)) for dtype in wanted}
        better = {name: max(new, gflops.get(name, 0.0)) for name, new in found.items() if new}
        copied = max(_gb_per_s(device), known["gb_per_s"]) if again else known["gb_per_s"]
        known = {
            "gflops": {**gflops, **better},
            "gb_per_s": copied,
            "fixed_ms": known["fixed_ms"],
            "disturbed": watch.disturbed(),
        }
        memory.put(question, known)
    return Peaks(known["gflops"], known["gb_per_s"], known["disturbed"])


def _gflops(device: torch.device, dtype: torch.dtype) -> float | None:
    """The better of a product and a convolution: libraries differ in how near they come."""
    speeds = []
    for make, small, large in zip(_KINDS, _SMALL, _LARGE[device.type], strict=True):
        speed = _speed(make, small, large, device, dtype)
        if speed is None:
            return None
        speeds.append(speed)
    return max(speeds)


def _speed(
    make: Make, small: int, large: int, device: torch.device, dtype: torch.dtype
) -> float | None:
    """Billions of operations a second at the large size, at the small one if that is slow."""
    try:
        call, operations = make(small, device, dtype)
        if (ms := _best_ms(call, device)) < _SLOW_MS:
            call, operations = make(large, device, dtype)
            ms = _best_ms(call, device)
    except (RuntimeError, NotImplementedError):
        return None
    return operations / ms / 1e6


def _product(side: int, device: torch.device, dtype: torch.dtype) -> tuple[Call, int]:
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    return lambda: matrix @ matrix, 2 * side**3


def _convolution(pixels: int, device: torch.device, dtype: torch.dtype) -> tuple[Call, int]:
    image = torch.ones(1, _CHANNELS, pixels, pixels, device=device, dtype=dtype)
    kernel = torch.ones(_CHANNELS, _CHANNELS, 3, 3, device=device, dtype=dtype)
    return lambda: F.conv2d(image, kernel, padding=1), 2 * kernel.numel() * pixels**2


_KINDS: tuple[Make, Make] = (_product, _convolution)


def _gb_per_s(device: torch.device) -> float:
    source = torch.ones(_COPIED[device.type], device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best_ms(lambda: target.copy_(source), device) / 1e6


def _best_ms(call: Callable[[], object], device: torch.device) -> float:
    clock, spent, best = clock_of(device.type), 0.0, float("inf")
    with torch.inference_mode():
        call()
        for _ in range(_SAMPLES):
            best = min(best, once := clock(call, 1))
            spent += once
            if spent > _LONGEST_MS:
                break
    return best
