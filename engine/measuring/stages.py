"""Layers that run as a chain of steps, so that each step can be timed by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.dispatch.timing import time_interleaved

Step = tuple[str, Callable[[Tensor], Tensor]]
"""The kind of work (``im2col``, ``select``, ``multiply``, ``reshape``), and the work."""


class Staged(nn.Module):
    """A layer whose forward pass is its steps, one after the other."""

    def steps(self, x: Tensor) -> list[Step]:
        """The steps for inputs like `x`; the first takes `x`, each other what came before it."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        for _, step in self.steps(x):
            x = step(x)
        return x


def time_steps(
    layer: Staged,
    x: Tensor,
    *,
    seconds: float = 0.4,
    check: Callable[[], object] = lambda: None,
) -> list[dict[str, Any]]:
    """``{"name", "ms"}`` of each kind of step, in their order, each step timed alone (S1, fig. 12).

    Together they take longer than the layer: each one starts and ends by itself.
    """
    names, calls = [], {}
    with torch.inference_mode():
        for index, (name, step) in enumerate(layer.steps(x)):
            names.append(name)
            calls[index] = partial(step, x)
            x = step(x)
    times = time_interleaved(calls, seconds=seconds, device=x.device.type, check=check)
    total = dict.fromkeys(names, 0.0)
    for index, name in enumerate(names):
        total[name] += times[index].median_ms
    return [{"name": name, "ms": ms} for name, ms in total.items()]
