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
    if isinstance(module, nn.MultiheadAttention):
        x = random(3, gemm.shape[1])
        stored = getattr(module, layer.weight.rpartition(".")[2])
        return F.linear(x, stored), x @ matrix.T
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return _gates(module, layer, matrix, random)
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
    if gemm.transposed:
        # A transposed convolution is a plain one over the spread-out input, with a flipped kernel.
        x, matrix = _spread(module, gemm, x), _flipped(gemm, matrix)
        stride: tuple[int, ...] = (1,) * len(gemm.kernel)
    else:
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x, stride = F.pad(x, module._reversed_padding_repeated_twice, mode=mode), module.stride
    columns, places = im2col(x, gemm, stride, module.dilation)
    grouped = matrix.view(gemm.groups, -1, matrix.shape[1])
    product = torch.einsum("goi,ngip->ngop", grouped, columns)
    return own, product.reshape(len(x), matrix.shape[0], *places)


def im2col(
    x: Tensor, gemm: Gemm, stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[Tensor, tuple[int, ...]]:
    """Columns [n, groups, in, positions] of a padded input [n, c, *size], and places per axis."""
    n, dims = len(x), len(gemm.kernel)
    for axis, (k, s, d) in enumerate(zip(gemm.kernel, stride, dilation, strict=True), start=2):
        x = x.unfold(axis, d * (k - 1) + 1, s)[..., ::d]
    places = tuple(x.shape[2 : 2 + dims])
    taps_first = [0, 1, *range(2 + dims, 2 + 2 * dims), *range(2, 2 + dims)]
    columns = x.permute(taps_first).reshape(n, gemm.groups, gemm.shape[1], -1)
    return columns, places


def _spread(module: Any, gemm: Gemm, x: Tensor) -> Tensor:
    size = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], module.stride, strict=True)]
    spread = x.new_zeros(*x.shape[:2], *size)
    spread[(slice(None), slice(None), *(slice(None, None, s) for s in module.stride))] = x
    pads: list[int] = []
    settings = zip(gemm.kernel, module.padding, module.dilation, module.output_padding, strict=True)
    for k, p, d, extra in reversed(list(settings)):
        pads += [d * (k - 1) - p, d * (k - 1) - p + extra]
    return F.pad(spread, pads)


def _flipped(gemm: Gemm, matrix: Tensor) -> Tensor:
    taps = matrix.view(matrix.shape[0], gemm.channels, *gemm.kernel)
    return taps.flip(list(range(2, taps.dim()))).reshape(matrix.shape)
