"""``inspect --check``: every layer computed through its GEMM view, against the layer itself.

S0 compared a convolution with its im2col product by exact equality of floats and saw "false".
Here they are compared by relative norm, where rounding is about 1e-7 in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .gemm import Gemm
from .im2col import im2col
from .info import LayerInfo
from .models.model import Model


@torch.no_grad()
def check(model: Model) -> dict[str, Any]:
    """Relative difference by layer path, the largest one, and why layers were left out.

    Random inputs of a fixed seed; each layer sees a few positions more than its kernel.
    """
    module = model.runnable()
    generator = torch.Generator().manual_seed(0)
    differences: dict[str, float] = {}
    skipped: dict[str, str] = {}
    for layer in model.info.layers:
        if layer.gemm is None or layer.kind.startswith("Embedding"):
            continue
        owner = module.get_submodule(layer.weight.rpartition(".")[0])
        pair = _products(owner, layer, model.matrix(layer.path), generator)
        if pair is None:
            skipped[layer.path] = f"no check is known for {layer.kind}"
            continue
        own, through = (part.double() for part in pair)
        differences[layer.path] = float((own - through).norm() / own.norm().clamp_min(1e-30))
    largest = max(differences.values(), default=0.0)
    return {"largest": largest, "layers": differences, "skipped": skipped}


def _products(
    module: nn.Module, layer: LayerInfo, matrix: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor] | None:
    """(the layer's own result, the result through W[out, in]), without biases where they differ."""

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(matrix.dtype)

    gemm = layer.gemm
    assert gemm is not None
    if gemm.kernel:
        size = [2 * k + 3 for k in gemm.kernel]
        x = random(2, gemm.channels * gemm.groups, *size)
        return _convolution(module, gemm, matrix, x)
    if gemm.stacked:
        x = random(gemm.groups, 3, gemm.shape[1])
        stored = getattr(module, layer.weight.rpartition(".")[2])
        own = torch.bmm(x, stored if gemm.transposed else stored.transpose(1, 2))
        return own, torch.stack([a @ w.T for a, w in zip(x, matrix.chunk(len(x)), strict=True)])
    if isinstance(module, nn.MultiheadAttention):
        x = random(3, gemm.shape[1])
        stored = getattr(module, layer.weight.rpartition(".")[2])
        return F.linear(x, stored), x @ matrix.T
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return _gates(module, layer, matrix, random)
    if type(module).__name__.endswith("Router"):
        x = random(3, gemm.shape[1])
        return F.linear(x, module.get_parameter("weight")), x @ matrix.T
    if type(module).__name__ == "Conv1D" or isinstance(module, nn.Linear):
        x = random(3, gemm.shape[1])
        own = module(x)
        return (own if module.bias is None else own - module.bias), x @ matrix.T
    return None


def _gates(
    module: nn.Module, layer: LayerInfo, matrix: Tensor, random: Any
) -> tuple[Tensor, Tensor]:
    """The gates' pre-activations: what torch's own cell computes from them, twice."""
    out, ins = matrix.shape
    name = layer.weight.rpartition(".")[2]
    stored = getattr(module, name)
    x = random(3, ins)
    kind = type(module).__name__
    if kind.startswith("LSTM") and out % 4 == 0 and "proj" not in name and "hr" not in name:
        hidden = out // 4
        zero, other = x.new_zeros(3, hidden), stored.new_zeros(out, hidden)
        own = torch.lstm_cell(x, (zero, zero), stored, other)[0]
        i, _, g, o = (x @ matrix.T).chunk(4, dim=1)
        return own, o.sigmoid() * (i.sigmoid() * g.tanh()).tanh()
    return F.linear(x, stored), x @ matrix.T


def _convolution(module: Any, gemm: Gemm, matrix: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    own = module(x)
    if module.bias is not None:
        own = own - module.bias.view(-1, *[1] * len(gemm.kernel))
    columns, places = im2col(module, gemm, x)
    grouped = matrix.view(gemm.groups, -1, matrix.shape[1])
    product = torch.einsum("goi,ngip->ngop", grouped, columns)
    return own, product.reshape(len(x), matrix.shape[0], *places)
