"""The arithmetic and the memory traffic of a call: what the roofline is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .kernel_pattern import PatternConv2d
from .layers import matrix_of
from .linear import SparseLayer
from .reduced import ReducedLayer


@dataclass(frozen=True)
class Work:
    """`operations` are floating additions and multiplications, `bytes` what has to be moved once.

    Bytes are those of the inputs, the outputs, and the weights as they are stored, indices too.
    """

    operations: int
    bytes: int

    def __add__(self, other: Work) -> Work:
        return Work(self.operations + other.operations, self.bytes + other.bytes)


def work(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Work:
    """What a layer, or all such layers of a model together, do in one call. Runs it once.

    Counts linear layers and convolutions, dense and in the sparse forms, with the entries that the
    form really multiplies, filling included. Not counted: products of activations with each other,
    and layers that a module computes without calling them, as attention does with its projections;
    a share of the roofline that is taken from this is then too low, never too high.
    """
    total = Work(0, 0)

    def note(layer: nn.Module, given: tuple[Any, ...], result: object) -> None:
        nonlocal total
        if isinstance(result, Tensor) and given and isinstance(given[0], Tensor):
            total += _of_call(layer, given[0], result)

    hooks = [layer.register_forward_hook(note) for layer in _counted(module)]
    try:
        with torch.inference_mode():
            module(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def multiplied(layer: nn.Module) -> int:
    """How many entries of the weight are multiplied for one output position."""
    if isinstance(layer, ReducedLayer):
        return multiplied(layer.layer)
    if isinstance(layer, PatternConv2d):
        return sum(map(multiplied, layer.products))
    if isinstance(layer, SparseLayer):
        out, ins = layer.sizes[:2]
        return out * ins // 2 if layer.form == "two_four" else layer.values.numel()
    matrix = matrix_of(layer)
    return 0 if matrix is None else matrix.numel()


def _of_call(layer: nn.Module, x: Tensor, y: Tensor) -> Work:
    stored = [*layer.parameters(), *layer.buffers()]
    moved = sum(tensor.nbytes for tensor in (x, y, *stored))
    return Work(2 * (y.numel() // max(1, _outputs(layer))) * multiplied(layer), moved)


def _outputs(layer: nn.Module) -> int:
    if isinstance(layer, ReducedLayer):
        return layer.out
    if isinstance(layer, PatternConv2d):
        return sum(map(_outputs, layer.products))
    if isinstance(layer, SparseLayer):
        return layer.sizes[0]
    matrix = matrix_of(layer)
    return 0 if matrix is None else len(matrix)


def _counted(module: nn.Module) -> list[nn.Module]:
    """The outermost layers whose work is known."""
    if isinstance(module, (SparseLayer, ReducedLayer, PatternConv2d)):
        return [module]
    if matrix_of(module) is not None:
        return [module]
    return [layer for child in module.children() for layer in _counted(child)]
