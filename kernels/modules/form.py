"""What a form of the linear layer is; `forms.py` has them all by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..products.cpu_sparse import CpuSparse

Indices = Sequence[Tensor]
Sizes = Sequence[int]
Multiply = Callable[[Tensor, Tensor, Tensor | None, Indices, Sizes], Tensor]
OnCpu = Callable[[Tensor, Indices, Sizes], CpuSparse]


@dataclass(frozen=True, eq=False)
class Packed:
    """A matrix in a form: `sizes` are out and in, then whatever integers the form has.

    `density` is the share of the matrix that is kept, without what a form stores beside it.
    """

    values: Tensor
    indices: dict[str, Tensor]
    sizes: tuple[int, ...]
    density: float = 1.0


@dataclass(frozen=True)
class Form:
    """One form of the linear layer.

    `pack` takes [out, in] values, the bool mask of what is kept, and the form's settings.
    `multiply` is the layer: x [..., in], the values, the bias or None, indices, sizes. `backward`
    gives the gradients by x [batch, in] and by the values; it takes that of y [batch, out], then
    the same. What only fills a row up has none. `on_cpu` is the matrix as the CPU multiplies it,
    for forms that it would unpack at each call, unless `as_packed` says for x and the density that
    it is faster from what is packed. `transposes` are more indices, for training: they
    follow the others. `learns`: whether the values have gradients.
    """

    pack: Callable[..., Packed]
    multiply: Multiply
    backward: Callable[[Tensor, Tensor, Tensor, Indices, Sizes], tuple[Tensor, Tensor]]
    on_cpu: OnCpu | None = None
    as_packed: Callable[[Tensor, float], bool] = lambda x, density: False
    transposes: Callable[[Packed], dict[str, Tensor]] | None = None
    learns: bool = True
