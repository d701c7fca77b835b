"""Bitmap: one bit per entry and the kept values (as SpInfer and its kin store weights)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from .base import SparseMatrix, check_shape, shape_of
from .bits import pack_bits, take, unpack_bits


@dataclass(frozen=True, eq=False)
class Bitmap(SparseMatrix):
    """The smallest for scattered zeros at 10 to 90 % sparsity.

    `bits` is uint8 [ceil(out * in / 8)], row by row, lowest bit first, set where the entry is not
    zero. `values` are those entries in the same order, 1-d.
    """

    kind: ClassVar[str] = "bitmap"
    bits: Tensor
    values: Tensor

    @classmethod
    def from_dense(cls, matrix: Tensor) -> Self:
        out, ins = matrix.shape
        matrix = matrix.detach()
        kept = matrix != 0
        return cls((out, ins), pack_bits(kept), take(matrix, kept))

    def to_dense(self) -> Tensor:
        out, ins = self.shape
        kept = unpack_bits(self.bits, out * ins).view(out, ins)
        return self.values.new_zeros(out, ins).masked_scatter_(kept, self.values)

    def parts(self) -> dict[str, Tensor]:
        return {"bits": self.bits, "values": self.values}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        out, ins = shape_of(meta)
        kept = int(unpack_bits(parts["bits"], out * ins).sum())
        check_shape("values", parts["values"], (kept,))
        return cls((out, ins), parts["bits"], parts["values"])
