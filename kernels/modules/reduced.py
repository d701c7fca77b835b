"""Dense layers made smaller: without the input channels and outputs that are all zero."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from .layers import CONVOLUTIONS, bias_of, is_convolution, matrix_of, select


class ReducedLayer(nn.Module):
    """A smaller dense layer: [..., in] -> [..., out], or [n, c, *size] -> [n, out, *outputs].

    `layer` is linear or a convolution; `inputs`, int64, are the input channels that it reads, and
    `outputs`, int64, the places of what it gives among all `out`; None for all. What is gone comes
    out as its entry in `rest` [out], the bias; None is zero.
    """

    inputs: Tensor | None
    outputs: Tensor | None
    rest: Tensor | None

    def __init__(
        self,
        layer: nn.Module,
        out: int,
        inputs: Tensor | None,
        outputs: Tensor | None,
        rest: Tensor | None,
    ) -> None:
        super().__init__()
        self.layer, self.out = layer, out
        self.behind = _dimensions(layer)
        self.register_buffer("inputs", inputs)
        self.register_buffer("outputs", outputs)
        self.register_buffer("rest", None if outputs is None or rest is None else rest.clone())

    @classmethod
    def from_dense(cls, module: nn.Module, mask: Tensor | None = None) -> Self:
        """Take the entries of a layer that `mask` keeps, bool [out, in] on its GEMM view.

        Without a mask those that are not zero. Raises ValueError for layers without a GEMM view or
        of several groups, and where nothing is kept.
        """
        matrix = matrix_of(module)
        if matrix is None or getattr(module, "groups", 1) != 1:
            raise ValueError(f"{module} has no smaller dense form")
        kept = matrix != 0 if mask is None else mask
        if not bool(kept.any()):
            raise ValueError("nothing is kept")
        rows, columns = kept.any(dim=1), kept.any(dim=0)
        places = module.weight[0, 0].numel() if is_convolution(module) else 1  # type: ignore[index]
        inputs, outputs = _index(columns.view(-1, places).any(dim=1)), _index(rows)
        weight = torch.where(kept, matrix, 0).view(len(matrix), -1, places)
        bias = bias_of(module)
        weight = weight if inputs is None else weight.index_select(1, inputs)
        weight = weight if outputs is None else weight.index_select(0, outputs)
        small = _dense(module, weight, bias is not None)
        if bias is not None:
            given = bias.clone() if outputs is None else bias[outputs]
            small.bias = nn.Parameter(given, requires_grad=False)
        return cls(small.train(module.training), len(matrix), inputs, outputs, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.placed(self.layer(self.selected(x)))

    def selected(self, x: Tensor) -> Tensor:
        """The input channels that the smaller layer reads."""
        if self.inputs is None:
            return x
        return select(x, x.dim() - self.behind - 1, self.inputs)

    def placed(self, y: Tensor) -> Tensor:
        """What the smaller layer gave, among all outputs."""
        if self.outputs is None:
            return y
        dim = y.dim() - self.behind - 1
        shape = [*y.shape[:dim], self.out, *y.shape[dim + 1 :]]
        rest = y.new_zeros(self.out) if self.rest is None else self.rest
        whole = rest.view(-1, *(1,) * self.behind).expand(shape)
        return whole.index_copy(dim, self.outputs, y)


def _dimensions(module: nn.Module) -> int:
    """How many dimensions come after the channels."""
    return len(module.kernel_size) if is_convolution(module) else 0  # type: ignore[arg-type]


def _index(flags: Tensor) -> Tensor | None:
    return None if bool(flags.all()) else torch.nonzero(flags).flatten()


def _dense(module: Any, weight: Tensor, bias: bool) -> nn.Module:
    """A layer of the same kind with the weight [out, in, places], which does not learn."""
    out, ins, _ = weight.shape
    small: Any
    if is_convolution(module):
        kind = next(kind for kind in CONVOLUTIONS if isinstance(module, kind))
        small = kind(
            ins,
            out,
            module.kernel_size,
            module.stride,
            module.padding,
            module.dilation,
            bias=bias,
            padding_mode=module.padding_mode,
            device="meta",
        )
    else:
        small = nn.Linear(ins, out, bias=bias, device="meta")
    small.weight = nn.Parameter(
        weight.reshape(small.weight.shape).contiguous(), requires_grad=False
    )
    return small
