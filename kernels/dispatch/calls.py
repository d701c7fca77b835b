"""What the layers of a model are called with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """What a layer was called with in a run of the whole model."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def example(self, device: torch.device) -> Tensor:
        """A random input of the same kind, the same every time."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.shape, generator=generator).to(device, self.dtype)


def recorded(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], paths: Iterable[str]
) -> dict[str, Call]:
    """Run `module` once and note what the modules at `paths` are called with, by path.

    Left out are paths that are no module, and modules that were not called or take anything else
    than one floating tensor.
    """
    calls: dict[str, Call] = {}
    modules = dict(module.named_modules())

    def note(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            lone = len(given) == 1 and not named and isinstance(given[0], Tensor)
            if lone and given[0].is_floating_point():
                calls.setdefault(path, Call(tuple(given[0].shape), given[0].dtype))

        return hook

    hooks = [
        modules[path].register_forward_pre_hook(note(path), with_kwargs=True)
        for path in paths
        if path in modules
    ]
    try:
        with torch.inference_mode():
            module(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return calls
