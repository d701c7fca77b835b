"""Sparse layers in CSR whose structure changes while they learn; nothing dense is ever made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..formats.csr import CSR
from ..products.csr_spmm import csr_linear
from ..products.sddmm import sddmm
from .conv import SparseConv
from .forms import packed_csr, transposes_csr
from .layers import is_convolution, is_transposed_linear
from .linear import SparseLayer, SparseLinear

_PARTS = {"crow_indices": "crow", "col_indices": "columns", "values": "values"}


class Evolving(SparseLayer):
    """A layer whose parameter is the values of a CSR matrix [out, in] that may be replaced.

    ``values`` stays the same parameter through all changes of the structure, so that optimizers
    keep it; their state of its old shape has to be carried (`Evolved.carry`). A state dict of any
    structure loads, if it is one of the same [out, in].
    """

    @property
    def matrix(self) -> CSR:
        """W[out, in]; its values are the parameter's own memory."""
        out, ins = self.sizes[:2]
        crow, columns = self.get_buffer("crow"), self.get_buffer("columns")
        return CSR((out, ins), crow, columns, self.values.detach())

    def replace(self, matrix: CSR) -> None:
        """Take another matrix of the same [out, in] and dtype; the gradient is forgotten."""
        if list(matrix.shape) != self.sizes[:2]:
            raise ValueError(f"a matrix of {matrix.shape} is no layer of {self.sizes}")
        packed = packed_csr(matrix)
        self.values.grad = None
        self.values.data = packed.values
        for name, part in (packed.indices | transposes_csr(packed)).items():
            setattr(self, name, part)
        self.density = packed.density
        self._on_cpu = None

    @property
    def blind(self) -> Tensor:
        """Bool [out]: the outputs that read no input."""
        return self.get_buffer("crow").diff() == 0

    @property
    def unread(self) -> Tensor:
        """Bool [in]: the inputs that no output reads."""
        return self.get_buffer("transposed_crow").diff() == 0

    def costs(self, grad: Tensor) -> Tensor:
        """The sum of |dL/dy_i| over all samples: [out], from the gradient by the layer's output."""
        raise NotImplementedError

    def gradient_rows(self, x: Tensor, grad: Tensor, rows: Tensor) -> Tensor:
        """Some rows of the gradient by W, of weights that there are not too: [len(rows), in].

        `x` and `grad` are the layer's input and the gradient by its output.
        """
        raise NotImplementedError

    def multiply(self, x: Tensor) -> Tensor:
        x = x.to(self.values.dtype)  # what comes from a layer under autocast is in 16 bits
        if self.as_operator(x) and not torch.compiler.is_compiling():
            made: Tensor = _Product.apply(x, self.values, self.bias, *self.indices)
            return made
        return super().multiply(x)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        names = {part: prefix + name for part, name in _PARTS.items()}
        if state.keys() >= set(names.values()):
            device = self.values.device
            parts = {part: state[name].to(device, copy=True) for part, name in names.items()}
            self.replace(CSR.from_parts(parts, {"shape": self.sizes[:2]}))
        super()._load_from_state_dict(state, prefix, *rest)


class _Product(torch.autograd.Function):
    """x W^T + bias, and only the gradients that are asked for: the first layer needs none by x.

    Without the overhead of a torch operator, which for small layers is more than their work.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, *indices: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, values, *indices)
        crow, columns, order = indices[:3]
        return csr_linear(crow, columns, values, x, bias=bias, order=order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, values, crow, columns, order, *across = ctx.saved_tensors
        wants_x, wants_values, wants_bias = ctx.needs_input_grad[:3]
        flat, samples = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        by_x = by_values = by_bias = None
        if wants_x:
            starts, rows, places, longest_first = across
            turned = values.index_select(0, places)
            by_x = csr_linear(starts, rows, turned, flat, order=longest_first).view(x.shape)
        if wants_values:
            by_values = sddmm(crow, columns, flat.t(), samples.t(), order=order)
        if wants_bias:
            by_bias = flat.sum(0)
        return by_x, by_values, by_bias, *(None,) * (3 + len(across))


class EvolvingLinear(Evolving, SparseLinear):
    """A linear layer: [..., in] -> [..., out]."""

    def costs(self, grad: Tensor) -> Tensor:
        return grad.reshape(-1, self.sizes[0]).abs().sum(0)

    def gradient_rows(self, x: Tensor, grad: Tensor, rows: Tensor) -> Tensor:
        chosen = grad.reshape(-1, self.sizes[0])[:, rows]
        return chosen.t() @ x.reshape(-1, self.sizes[1]).to(chosen.dtype)


class EvolvingConv(Evolving, SparseConv):
    """A convolution of one group through its GEMM view: [n, c, *size] -> [n, out, *outputs]."""

    def costs(self, grad: Tensor) -> Tensor:
        return self._batched(grad).abs().transpose(0, 1).flatten(1).sum(1)

    def gradient_rows(self, x: Tensor, grad: Tensor, rows: Tensor) -> Tensor:
        x, grad = self._batched(x), self._batched(grad)
        if any(self.padding):
            x = F.pad(x, self.padding, self.padding_mode)
        window = self.window
        chosen = grad[:, rows]
        weight = chosen.new_empty(()).expand(len(rows), x.shape[1], *window.kernel)
        pads = [before for before, _ in window.padding]
        made = torch.ops.aten.convolution_backward(
            chosen, x.to(chosen.dtype), weight, None, window.stride, pads, window.dilation,
            False, [0] * len(pads), 1, (False, True, False),
        )  # fmt: skip
        return made[1].flatten(1)

    def _batched(self, images: Tensor) -> Tensor:
        return images if images.dim() == len(self.window.kernel) + 2 else images.unsqueeze(0)


def evolving(module: nn.Module, matrix: CSR) -> EvolvingLinear | EvolvingConv:
    """The layer in the place of a linear one or a convolution, with this matrix and a bias of zero.

    Learns; `matrix` is on the device where it is to be. Raises ValueError for another module, a
    convolution of several groups, and a matrix of another shape.
    """
    has_bias = isinstance(getattr(module, "bias", None), Tensor)
    bias = matrix.values.new_zeros(matrix.shape[0]) if has_bias else None
    packed = packed_csr(matrix)
    if is_convolution(module):
        return EvolvingConv.like(module, "csr", packed, bias, trainable=True)
    if not isinstance(module, nn.Linear) and not is_transposed_linear(module):
        raise ValueError(f"{type(module).__name__} is neither a linear layer nor a convolution")
    return EvolvingLinear("csr", packed, bias, trainable=True).train(module.training)
