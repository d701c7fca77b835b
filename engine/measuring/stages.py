"""Layers that run as a chain of steps, so that each step can be timed by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.dispatch import timing
from ...kernels.modules.steps import steps

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


@torch.inference_mode()
def bound(layer: Staged, x: Tensor) -> list[tuple[str, Callable[[], object]]]:
    """The steps as calls, each with what the one before it left."""
    calls: list[tuple[str, Callable[[], object]]] = []
    for name, step in layer.steps(x):
        calls.append((name, partial(step, x)))
        x = step(x)
    return calls


def time_steps(
    layer: nn.Module,
    x: Tensor,
    *,
    seconds: float = 0.4,
    check: Callable[[], object] = lambda: None,
) -> list[dict[str, Any]]:
    """``{"name", "ms"}`` of each kind of step, in their order, each step timed alone (S1, fig. 12).

    Together they take longer than the layer: each one starts and ends by itself.
    """
    calls = bound(layer, x) if isinstance(layer, Staged) else steps(layer, x)
    device = x.device.type
    times = timing.time_steps(calls, seconds=seconds, device=device, check=check)
    return [{"name": name, "ms": ms} for name, ms in times.items()]
