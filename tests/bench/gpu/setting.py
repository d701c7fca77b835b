"""Where the GPU benchmarks run, and what their cases share: data, precision, faults."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Json = dict[str, Any]

# Data that is meant to come from memory is this many times the last cache, over all its copies.
_TIMES_CACHE, _MOST_COPIES, _USUAL_CACHE = 3, 24, 64 << 20


class Broken(RuntimeError):
    """The device answers with errors from now on: this process is of no more use."""


@dataclass(frozen=True)
class Setting:
    """The device, and whether shapes are tiny (`quick`), to try every line without a GPU.

    `without_graphs` are the topics in which something could not be captured into a graph.
    """

    device: torch.device
    quick: bool = False
    without_graphs: set[str] = field(default_factory=set)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def randn(self, *shape: int, dtype: torch.dtype = torch.float32, fan: int = 1) -> Tensor:
        """Normal numbers, divided by the root of `fan`."""
        return (torch.randn(*shape, device=self.device) / math.sqrt(fan)).to(dtype)

    def scattered(self, out: int, ins: int, density: float) -> Tensor:
        """A mask, bool [out, ins], of independent entries."""
        return torch.rand(out, ins, device=self.device) < density

    def columns(self, count: int, density: float) -> Tensor:
        """A mask, bool [count], of exactly that share, but of one at least."""
        mask = torch.zeros(count, dtype=torch.bool, device=self.device)
        mask[torch.randperm(count, device=self.device)[: max(1, round(count * density))]] = True
        return mask

    def copies(self, size: int) -> int:
        """How many copies of `size` bytes overflow the last cache, taken in turns."""
        if not self.on_gpu:
            return 2
        properties = torch.cuda.get_device_properties(self.device)
        cache = getattr(properties, "L2_cache_size", 0) or _USUAL_CACHE
        return min(_MOST_COPIES, max(1, -(-_TIMES_CACHE * cache // max(1, size))))

    def settle(self) -> None:
        """Wait for the device; raises Broken where it has met a fault."""
        if not self.on_gpu:
            return
        try:
            torch.cuda.synchronize(self.device)
        except Exception as error:
            raise Broken(reason(error)) from error


@dataclass(frozen=True)
class Case:
    """One row of a table: `run` takes the setting and seconds to spend, and gives plain values.

    `patience` is how many seconds may pass before the row counts as hung. Rows that rest on the
    same kernel have the same `group`: when several have lost the device, the others are left out.
    """

    group: str
    name: str
    run: Callable[[Setting, float], Json]
    patience: float = 30.0


@contextmanager
def fp32_precision(word: str) -> Iterator[None]:
    """What torch's products and convolutions may do to fp32: "ieee" nothing, "tf32" round."""
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = word
    try:
        yield
    finally:
        for place, old in zip(places, before, strict=True):
            place.fp32_precision = old


@contextmanager
def poisoned() -> Iterator[None]:
    """Torch's memory that is asked for without content comes as NaN or the largest integer."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def distance(found: object, wanted: object) -> float:
    """Relative norm of the difference; of masks and integers the share of entries that differ."""
    if isinstance(found, (list, tuple)) and isinstance(wanted, (list, tuple)):
        return max(distance(a, b) for a, b in zip(found, wanted, strict=True))
    assert isinstance(found, Tensor)
    assert isinstance(wanted, Tensor)
    assert found.shape == wanted.shape, f"shape {list(found.shape)}, not {list(wanted.shape)}"
    if not wanted.dtype.is_floating_point:
        return float((found != wanted).double().mean()) if wanted.numel() else 0.0
    true = wanted.double()
    apart = (found.double() - true).norm() / true.norm().clamp_min(1e-300)
    return float(apart) if bool(apart.isfinite()) else math.inf


def reason(error: BaseException) -> str:
    """An exception in one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:300]}" if words else type(error).__name__


def trimmed(items: Sequence[Any], setting: Setting, most: int = 1) -> list[Any]:
    """All items, or the first few in a quick run."""
    return list(items[:most] if setting.quick else items)
