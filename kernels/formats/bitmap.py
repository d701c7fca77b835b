"""Bitmap: one bit per entry and the kept values (as SpInfer and its kin store weights)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from .base import SparseMatrix, check_shape, shape_of
from .bits import pack_bits, take, to_int32, unpack_bits
from .entries import Entries
from .pack import bitmap_arrays_cuda, serves


@dataclass(frozen=True, eq=False, repr=False)
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
        """See `SparseMatrix.from_dense`; fits every matrix."""
        if serves(matrix):
            return cls((matrix.shape[0], matrix.shape[1]), *bitmap_arrays_cuda(matrix))
        return cls.from_mask(matrix, matrix.detach() != 0)

    @classmethod
    def from_mask(cls, matrix: Tensor, mask: Tensor, **settings: Any) -> Self:
        """See `SparseMatrix.from_mask`; there are no settings."""
        if mask.shape != matrix.shape or settings:
            return super().from_mask(matrix, mask, **settings)
        out, ins = matrix.shape
        if serves(matrix):
            return cls((out, ins), *bitmap_arrays_cuda(matrix, mask))
        return cls((out, ins), pack_bits(mask), take(matrix.detach(), mask))

    def to_dense(self) -> Tensor:
        return self.values.new_zeros(self.shape).masked_scatter_(self.kept(), self.values)

    def kept(self) -> Tensor:
        """Bool [out, in], True at the entries."""
        out, ins = self.shape
        return unpack_bits(self.bits, out * ins).view(out, ins)

    @cached_property
    def words(self) -> Tensor:
        """The bits with each row in words of its own, for products: int64 [out, ceil(in / 64)].

        Bit ``c % 64`` (0 is the lowest) of word ``c // 64`` is set where column c is kept; the bits
        after the last column are 0. As bytes, least significant first, a row is `bits` cut at the
        row's ends. The values of a row start at its place in `offsets`.
        """
        out, ins = self.shape
        rows = pad(self.kept(), (0, -ins % 64))
        return pack_bits(rows).view(out, -(-ins // 64), 8).view(torch.int64).squeeze(2)

    @cached_property
    def offsets(self) -> Tensor:
        """Where each row starts in `values`, and their number: int32 [out + 1].

        Raises ValueError from 2**31 values on.
        """
        ends = self.kept().sum(dim=1).cumsum(0)
        return to_int32(pad(ends, (1, 0)), len(self.values) + 1)

    def entries(self) -> Entries:
        rows, columns = torch.nonzero(self.kept(), as_tuple=True)
        return Entries(self.shape, rows.contiguous(), columns.contiguous(), self.values)

    @classmethod
    def from_entries(cls, entries: Entries) -> Self:
        return cls(entries.shape, pack_bits(entries.mask()), entries.values)

    def parts(self) -> dict[str, Tensor]:
        return {"bits": self.bits, "values": self.values}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        out, ins = shape_of(meta)
        kept = int(unpack_bits(parts["bits"], out * ins).sum())
        check_shape("values", parts["values"], (kept,))
        return cls((out, ins), parts["bits"], parts["values"])
