"""Several ways to run one thing against each other; dense is always one of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .timing import Timing, time_interleaved

DENSE = "dense"
"""The path of the dense form, which every race has."""

_MARGIN = 0.98
"""A candidate has to win by more than a second run would take back."""


@dataclass(frozen=True)
class Form:
    """One way to run something: the module, and what it is called with.

    `path` is the executed path in words, as a cell of the table shows it.
    """

    path: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def calls(self) -> list[Callable[[], object]]:
        """The calls to time: as it is and, with convolutions, with channels last as well."""

        def plain() -> object:
            return self.module(*self.args, **self.kwargs)

        if not any(isinstance(m, nn.Conv2d) for m in self.module.modules()):
            return [plain]
        last = copy.deepcopy(self.module).to(memory_format=torch.channels_last)
        args = tuple(_channels_last(arg) for arg in self.args)
        kwargs = {name: _channels_last(arg) for name, arg in self.kwargs.items()}
        return [plain, lambda: last(*args, **kwargs)]


def _channels_last(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dim() == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value


def race(
    forms: Iterable[Form],
    *,
    seconds: float = 0.4,
    device: str = "cpu",
    check: Callable[[], object] = lambda: None,
) -> dict[str, Timing]:
    """The better timing of each form by path, over the memory formats that it can have.

    Arguments and errors are those of `time_interleaved`, and whatever a form raises when it runs.
    """
    calls = {(form.path, i): call for form in forms for i, call in enumerate(form.calls())}
    timings = time_interleaved(calls, seconds=seconds, device=device, check=check)
    best: dict[str, Timing] = {}
    for (path, _), timing in timings.items():
        if path not in best or timing.median_ms < best[path].median_ms:
            best[path] = timing
    return best


def runs(module: nn.Module, x: Tensor) -> bool:
    """Whether the form takes this input; a fault of the device is raised, as it says nothing."""
    try:
        with torch.inference_mode():
            module(x)
    except (NotImplementedError, TypeError, ValueError):
        return False
    except RuntimeError as error:
        if "CUDA error" in str(error):
            raise
        return False
    return True


def winner(times: Mapping[str, Timing]) -> str:
    """The path of the fastest form; `DENSE` unless another one beats it beyond doubt."""
    best = min(times, key=lambda path: times[path].median_ms)
    return best if _beats(times[best], times[DENSE]) else DENSE


def _beats(timing: Timing, dense: Timing) -> bool:
    """Whether the win is a win: the typical and the undisturbed runs agree, beyond a margin."""
    typical = timing.median_ms < _MARGIN * dense.median_ms
    return typical and timing.q1 < _MARGIN * dense.q1
