"""The dense layers that have sparse forms, seen as one matrix W[out, in]."""

from __future__ import annotations

import math

from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def is_convolution(module: nn.Module) -> bool:
    """Whether it is a convolution of one to three dimensions, and not a transposed one."""
    return isinstance(module, CONVOLUTIONS)


def is_transposed_linear(module: nn.Module) -> bool:
    """Whether it is the ``Conv1D`` of transformers: a linear layer whose weight is [in, out]."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def matrix_of(module: nn.Module) -> Tensor | None:
    """The GEMM view of a layer's weight without its gradient; None for layers without one here.

    [out, in] for a linear layer, [out, channels of a group * kernel places] for a convolution.
    """
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        return None
    if is_transposed_linear(module):
        return weight.detach().t()
    if isinstance(module, nn.Linear) or is_convolution(module):
        return weight.detach().flatten(1)
    return None


def bias_of(module: nn.Module) -> Tensor | None:
    """The layer's bias [out] without its gradient, if it has one."""
    bias = getattr(module, "bias", None)
    return bias.detach() if isinstance(bias, Tensor) else None


def select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """``x.index_select(dim, index)``, by the dimension that lies innermost in memory as a matrix.

    On the CPU that is ten times as fast, and it leaves channels-last inputs channels-last.
    """
    inner = x.movedim(dim, -1)
    if not inner.is_contiguous():
        return x.index_select(dim, index)
    flat = inner.reshape(math.prod(inner.shape[:-1]), inner.shape[-1])
    return flat.index_select(1, index).view(*inner.shape[:-1], len(index)).movedim(-1, dim)
