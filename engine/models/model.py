"""An opened model: its table, its weights, and the module that computes, where there is one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadInput
from ..info import ModelInfo

Inputs = Callable[[int], tuple[tuple[Any, ...], dict[str, Any]]]


@dataclass(repr=False)
class Model:
    """A model as loaded.

    `module` is in eval mode on the CPU, or None for a bare state dict. `state` holds parameters and
    buffers by their state-dict names; they are the module's own tensors. `inputs(batch)` gives
    ``(args, kwargs)`` of one example, the same every time, or `inputs` is None where none is known.
    `arch` names the architecture of a state dict, `config` is a Hugging Face configuration.
    """

    address: str
    info: ModelInfo
    state: Mapping[str, Tensor]
    module: nn.Module | None = None
    inputs: Inputs | None = None
    arch: str | None = None
    config: dict[str, Any] | None = None

    def __repr__(self) -> str:
        layers, params = len(self.info.layers), self.info.params
        return f"Model({self.address!r}: {layers} layers, {params:,} parameters)"

    def weight(self, path: str) -> Tensor:
        """The stored parameter of the layer at `path`, detached."""
        return self.state[self.info.layer(path).weight].detach()

    def matrix(self, path: str) -> Tensor:
        """W[out, in] of the layer at `path`; raises BadInput for a layer that has no matrix."""
        layer = self.info.layer(path)
        if layer.gemm is None:
            raise BadInput(f"{path} has no weight matrix: {layer.reason}")
        return layer.gemm.view(self.weight(path))

    def runnable(self) -> nn.Module:
        """The module, or BadInput that says how to get one."""
        if self.module is None:
            raise BadInput(
                f"{self.address} holds weights only; name its architecture with --arch, "
                "for example --arch torchvision:resnet18"
            )
        return self.module

    def digest(self) -> str:
        """SHA-256 over names, dtypes, shapes and bytes of all tensors."""
        total = hashlib.sha256()
        for name in sorted(self.state):
            tensor = self.state[name].detach()
            total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            raw = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)
            total.update(raw.numpy().data)
        return total.hexdigest()
