"""Dense: the matrix as it is, where nothing smaller fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor

from .base import SparseMatrix, check_shape, shape_of
from .entries import Entries


@dataclass(frozen=True, eq=False, repr=False)
class Dense(SparseMatrix):
    """All entries, zeros too. `values` is [out, in]. Keeps the sign of a zero."""

    kind: ClassVar[str] = "dense"
    values: Tensor

    @classmethod
    def from_dense(cls, matrix: Tensor) -> Self:
        out, ins = matrix.shape
        return cls((out, ins), matrix.detach().contiguous())

    def to_dense(self) -> Tensor:
        return self.values.clone()

    def entries(self) -> Entries:
        """The non-zeros."""
        return Entries.of(self.values)

    @classmethod
    def from_entries(cls, entries: Entries) -> Self:
        return cls(entries.shape, entries.to_dense())

    def parts(self) -> dict[str, Tensor]:
        return {"values": self.values}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        check_shape("values", parts["values"], shape_of(meta))
        return cls(shape_of(meta), parts["values"])
