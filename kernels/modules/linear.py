"""The linear layer in any of the sparse forms."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from ..cuda.launch import launchable
from ..products.cpu_sparse import CpuSparse, sparse_linear_cpu
from .form import Packed
from .forms import FORMS, pack
from .layers import bias_of, is_convolution, matrix_of
from .operators import LINEAR


class SparseLayer(nn.Module):
    """What the sparse layers share: a matrix W[out, in] in a form, and a bias [out] or None.

    `values` is a parameter, what says where they lie are buffers, so that the layer moves, copies
    and loads as any other. Both parameters learn only if `trainable`; the structure never changes.
    """

    values: Tensor

    def __init__(
        self, form: str, packed: Packed, bias: Tensor | None = None, *, trainable: bool = False
    ) -> None:
        """Raises ValueError where the form's values cannot learn and should."""
        super().__init__()
        if trainable and not FORMS[form].learns:
            raise ValueError(f"the values of {form} are packed for good and cannot learn")
        self.form, self.sizes, self.density = form, list(packed.sizes), packed.density
        self.values = nn.Parameter(packed.values, requires_grad=trainable)
        self.bias = None if bias is None else nn.Parameter(bias.clone(), requires_grad=trainable)
        transposes = FORMS[form].transposes if trainable else None
        indices = packed.indices | (transposes(packed) if transposes else {})
        self._names = tuple(indices)
        for name, part in indices.items():
            self.register_buffer(name, part)
        self._on_cpu: tuple[object, CpuSparse] | None = None

    @property
    def indices(self) -> list[Tensor]:
        """The tensors that say where the values lie, in the form's order."""
        return [self.get_buffer(name) for name in self._names]

    def multiply(self, x: Tensor) -> Tensor:
        """The linear layer x W^T + bias: [..., in] to [..., out].

        As torch's operator where gradients are asked for or the call is being compiled or exported,
        otherwise without its overhead.
        """
        if self.as_operator(x):
            return LINEAR[self.form](x, self.values, self.bias, self.indices, self.sizes)
        matrix = self.matrix_on_cpu(x)
        if matrix is not None:
            return sparse_linear_cpu(matrix, x, self.bias)
        return FORMS[self.form].multiply(x, self.values, self.bias, self.indices, self.sizes)

    def check(self, x: Tensor, dim: int, expected: int) -> None:
        """Raise ValueError unless x has as many features or channels, in the values' dtype.

        The products themselves do not ask how long their input is. Under autocast layers hand each
        other other dtypes than their own.
        """
        if x.dim() <= max(dim, 0) or x.shape[dim] != expected:
            what = "features" if dim < 0 else "channels"
            raise ValueError(f"the layer takes {expected} {what}, not an input {list(x.shape)}")
        if x.dtype != self.values.dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(f"the layer is {self.values.dtype}, its input {x.dtype}")

    def as_operator(self, x: Tensor) -> bool:
        """Whether a call with `x` has to leave a trace: for gradients, compile or export."""
        if torch.compiler.is_compiling():
            return True
        learns = x.requires_grad or self.values.requires_grad
        learns = learns or (self.bias is not None and self.bias.requires_grad)
        return learns and torch.is_grad_enabled()

    def matrix_on_cpu(self, x: Tensor) -> CpuSparse | None:
        """The matrix as the CPU multiplies it, unpacked once, and again when a tensor changes.

        None for the forms that are multiplied as they are, other devices, and traced calls.
        """
        form = FORMS[self.form]
        unpack = form.on_cpu
        if unpack is None or not x.is_cpu or launchable(x) or self.as_operator(x):
            return None
        if form.as_packed(x, self.density):
            return None
        state = [state_of(tensor) for tensor in (self.values, *self.indices)]
        if self._on_cpu is None or self._on_cpu[0] != state:
            self._on_cpu = state, unpack(self.values.detach(), self.indices, self.sizes)
        return self._on_cpu[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_on_cpu": None}

    def extra_repr(self) -> str:
        out, ins = self.sizes[:2]
        form = " ".join([self.form, ":".join(map(str, self.sizes[2:]))]).strip()
        bias = self.bias is not None
        return f"{form}, {ins} -> {out}, density={self.density:.3g}, bias={bias}"


class SparseLinear(SparseLayer):
    """A linear layer whose weight is in a sparse form: [..., in] -> [..., out]."""

    @classmethod
    def from_dense(
        cls,
        module: nn.Module,
        form: str = "csr",
        mask: Tensor | None = None,
        *,
        trainable: bool = False,
        **settings: Any,
    ) -> Self:
        """Take a linear layer, also the ``Conv1D`` of transformers; arguments as those of `pack`.

        Raises ValueError for other layers, and whatever `pack` raises.
        """
        matrix = matrix_of(module)
        if matrix is None or is_convolution(module):
            raise ValueError(f"{type(module).__name__} is no linear layer")
        packed = pack(form, matrix, mask, **settings)
        layer = cls(form, packed, bias_of(module), trainable=trainable)
        return layer.train(module.training)

    def forward(self, x: Tensor) -> Tensor:
        self.check(x, -1, self.sizes[1])
        return self.multiply(x)


def state_of(tensor: Tensor) -> tuple[int, int]:
    """What changes when a tensor is written to or replaced; those of inference count no writes."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
