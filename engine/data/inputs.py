"""What a model is fed with: one tensor, or tensors by name for models of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Tensor | Mapping[str, Tensor]
"""Examples along the first dimension: images float32 [n, c, h, w], features float32 [n, features],
or a tokenizer's tensors by the names of the model's arguments, int64 [n, tokens]."""

Batch = tuple[Inputs, Tensor]
"""Inputs and their labels, int64 [n]."""


def to_device(inputs: Inputs, device: str | torch.device) -> Inputs:
    """The inputs on `device`."""
    if isinstance(inputs, Tensor):
        return inputs.to(device)
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """``(args, kwargs)`` for a module: a tensor is its first argument, others go by name."""
    return ((inputs,), {}) if isinstance(inputs, Tensor) else ((), dict(inputs))


def forward(module: nn.Module, inputs: Inputs) -> Any:
    """What the module returns for `inputs`."""
    args, kwargs = arguments(inputs)
    return module(*args, **kwargs)
