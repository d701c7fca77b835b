"""A pruned model made as fast as this machine allows, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from .dispatcher import Choice, Dispatcher
from .memory import Memory, default_folder


def accelerate(
    module: nn.Module, *args: Any, **kwargs: Any
) -> tuple[nn.Module, Mapping[str, Choice]]:
    """A copy of `module` for inference, its pruned layers in the form that is fastest here.

    It does not learn: none of its parameters asks for gradients.

    `args` and `kwargs` are one input as the model will be called with: its batch size, dtype and
    device decide what is fastest. Each layer is measured once; the answers are kept in the
    person's cache folder. Returns the copy and what runs in each layer with zeros, by path; a layer
    that nothing beats stays dense, and so does the whole model if it gains nothing.
    """
    return Dispatcher(Memory(default_folder())).accelerate(module, args, kwargs)
