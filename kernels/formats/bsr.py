"""BSR, block sparse row: the blocks of h x w that hold anything, whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from .base import SparseMatrix, check_compressed, check_shape, shape_of
from .bits import narrow, to_int32
from .entries import Entries, lines_of, starts


@dataclass(frozen=True, eq=False, repr=False)
class BSR(SparseMatrix):
    """The smallest where zeros come in blocks; each block is a small dense product.

    `block` is (h, w). `crow_indices` [ceil(out / h) + 1] says where each row of blocks starts in
    `col_indices` (1-d, ascending in a row of blocks) and `values` [blocks, h, w]. A block that
    reaches over the lower or the right edge of the matrix is filled up with zeros. Indices are as
    narrow as the matrix allows.
    """

    kind: ClassVar[str] = "bsr"
    block: tuple[int, int]
    crow_indices: Tensor
    col_indices: Tensor
    values: Tensor

    @classmethod
    def from_dense(cls, matrix: Tensor, block: tuple[int, int] = (8, 8)) -> Self:
        """See `SparseMatrix.from_dense`; fits every matrix. ValueError for a block below 1 x 1."""
        out, ins = matrix.shape
        (h, w), (down, across) = block, _grid((out, ins), block)
        matrix = matrix.detach()
        if (down * h, across * w) != (out, ins):
            matrix = pad(matrix, (0, across * w - ins, 0, down * h - out))
        blocks = matrix.reshape(down, h, across, w).transpose(1, 2)
        kept = blocks != 0
        rows, columns = torch.nonzero(kept.any(dim=3).any(dim=2), as_tuple=True)
        crow = narrow(starts(rows.contiguous(), down), len(rows))
        values = torch.where(kept, blocks, 0)[rows, columns]  # without the signs of zeros
        return cls((out, ins), block, crow, narrow(columns.contiguous(), across - 1), values)

    def to_dense(self) -> Tensor:
        (out, ins), (h, w), (down, across) = self.shape, self.block, _grid(self.shape, self.block)
        rows = lines_of(self.crow_indices, len(self.values))
        dense = self.values.new_zeros(down, h, across, w)
        dense.transpose(1, 2)[rows, self.col_indices.long()] = self.values
        return dense.view(down * h, across * w)[:out, :ins].contiguous()

    @cached_property
    def indices32(self) -> tuple[Tensor, Tensor]:
        """`crow_indices` and `col_indices` as int32, which every product reads; made once."""
        count = len(self.values)
        return to_int32(self.crow_indices, count + 1), to_int32(self.col_indices, self.shape[1])

    def entries(self) -> Entries:
        """The non-zeros: a zero in a block is the block's, not an entry."""
        h, w = self.block
        number, row, column = torch.nonzero(self.values, as_tuple=True)
        rows = lines_of(self.crow_indices, len(self.values))[number] * h + row
        columns = self.col_indices.long()[number] * w + column
        return Entries.unordered(self.shape, rows, columns, self.values[number, row, column])

    @classmethod
    def from_entries(cls, entries: Entries, block: tuple[int, int] = (8, 8)) -> Self:
        """See `SparseMatrix.from_entries`. ValueError for a block below 1 x 1."""
        (h, w), (down, across) = block, _grid(entries.shape, block)
        cells = entries.rows // h * across + entries.columns // w
        kept = torch.zeros(down * across, dtype=torch.bool, device=cells.device)
        kept[cells] = True
        chosen = torch.nonzero(kept).flatten()
        number = kept.cumsum(0)[cells] - 1
        values = entries.values.new_zeros(len(chosen), h, w)
        values[number, entries.rows % h, entries.columns % w] = entries.values
        crow = narrow(starts(chosen // max(1, across), down), len(chosen))
        columns = narrow(chosen % max(1, across), across - 1)
        return cls(entries.shape, block, crow, columns, values)

    def parts(self) -> dict[str, Tensor]:
        return {
            "crow_indices": self.crow_indices,
            "col_indices": self.col_indices,
            "values": self.values,
        }

    def meta(self) -> dict[str, Any]:
        return {**super().meta(), "block": list(self.block)}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        (out, ins), (h, w) = shape_of(meta), meta["block"]
        if type(h) is not int or type(w) is not int:
            raise ValueError(f"not a block: {meta['block']!r}")
        down, across = _grid((out, ins), (h, w))
        crow, columns, values = (parts[k] for k in ("crow_indices", "col_indices", "values"))
        check_compressed("crow_indices", crow, "col_indices", columns, (down, across))
        check_shape("values", values, (len(columns), h, w))
        below = values[int(crow[down - 1]) :, h - (down * h - out) :] if down else values
        beside = values[columns.long() == across - 1][:, :, w - (across * w - ins) :]
        if torch.count_nonzero(below) or torch.count_nonzero(beside):
            raise ValueError("values beyond the edges of the matrix must be zero")
        return cls((out, ins), (h, w), crow, columns, values)


def _grid(shape: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    """How many blocks the matrix has downwards and across."""
    (out, ins), (h, w) = shape, block
    if h < 1 or w < 1:
        raise ValueError(f"a block of {h} x {w} holds nothing")
    return -(-out // h), -(-ins // w)
