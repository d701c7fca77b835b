"""The matrices of a module whose weights change while the model's own stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..models.model import Model


def with_module(model: Model, module: nn.Module) -> Model:
    """The model as it is with the weights of `module`."""
    return replace(model, module=module, state=module.state_dict())


def matrices(model: Model, module: nn.Module) -> Callable[[str], Tensor]:
    """W[out, in] by a layer's path, of `module` as it is now."""
    parameters = dict(module.named_parameters(remove_duplicate=False))

    def matrix(path: str) -> Tensor:
        layer = model.info.layer(path)
        assert layer.gemm is not None
        return layer.gemm.view(parameters[layer.weight].detach())

    return matrix


@torch.no_grad()
def put(model: Model, module: nn.Module, path: str, matrix: Tensor) -> None:
    """Write W[out, in] of a layer into `module`."""
    layer = model.info.layer(path)
    assert layer.gemm is not None
    module.get_parameter(layer.weight).copy_(layer.gemm.store(matrix))
