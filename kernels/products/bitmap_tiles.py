"""The layout of a bitmap matrix that the GPU products read: tiles that fit tensor cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ..formats.bitmap import Bitmap
from ..formats.bits import unpack_bits

_ROWS, _COLUMNS, _TILES = 8, 16, 8  # of a tile, of a tile, tiles in a chunk


@dataclass(frozen=True, eq=False)
class BitmapTiles:
    """A matrix of `shape` (out, in): one bit per entry, the values that are not zero, few offsets.

    Rows go in strips of 8, a strip's columns in chunks of 128, a chunk in 8 tiles of 8 x 16 side by
    side, a tile row by row. `words` is int32 [strips, chunks, 32], each bit set where the entry is
    kept, lowest bit first, and never beyond the matrix; `values` are those entries in that order,
    1-d; `offsets` int32 [strips, chunks] says where each chunk's start.
    """

    shape: tuple[int, int]
    words: Tensor
    offsets: Tensor
    values: Tensor

    @classmethod
    def from_dense(cls, matrix: Tensor, mask: Tensor | None = None) -> Self:
        """Store the entries of a floating [out, in] matrix where `mask` is True, or its non-zeros.

        Raises ValueError for 2**31 values and more.
        """
        out, ins = matrix.shape
        kept = _tiles(matrix.detach() != 0 if mask is None else mask)
        counts = kept.sum(dim=(2, 3, 4)).flatten()
        ends = counts.cumsum(0)
        if len(ends) and int(ends[-1]) >= 1 << 31:
            raise ValueError(f"{int(ends[-1])} values are more than 32-bit offsets reach")
        flat = Bitmap.from_mask(_tiles(matrix.detach()).view(1, -1), kept.view(1, -1))
        words = flat.bits.view(*kept.shape[:2], 32, 4).view(torch.int32).squeeze(-1)
        offsets = (ends - counts).to(torch.int32).view(kept.shape[:2])
        return cls((out, ins), words, offsets, flat.values)

    def to_dense(self) -> Tensor:
        """The matrix again, [out, in], contiguous."""
        (out, ins), (strips, chunks) = self.shape, self.offsets.shape
        kept = self._kept()
        flat = self.values.new_zeros(len(kept)).masked_scatter_(kept, self.values)
        tiles = flat.view(strips, chunks, _TILES, _ROWS, _COLUMNS)
        whole = tiles.permute(0, 3, 1, 2, 4).reshape(strips * _ROWS, chunks * _TILES * _COLUMNS)
        return whole[:out, :ins].contiguous()

    def located(self) -> tuple[Tensor, Tensor]:
        """The row and the column of each of `values`, in their order, int64."""
        chunks = self.offsets.shape[1]
        place = torch.nonzero(self._kept()).flatten()
        tile, within = place // (_ROWS * _COLUMNS), place % (_ROWS * _COLUMNS)
        strip, tile_in_strip = tile // max(1, chunks * _TILES), tile % max(1, chunks * _TILES)
        rows = strip * _ROWS + within // _COLUMNS
        return rows, tile_in_strip * _COLUMNS + within % _COLUMNS

    def _kept(self) -> Tensor:
        """One bool per place, 1-d, in the order of `words`."""
        return unpack_bits(self.words.reshape(-1).view(torch.uint8), self.words.numel() * 32)

    @property
    def chunk(self) -> int:
        """Columns of a chunk."""
        return _TILES * _COLUMNS

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return self.words.nbytes + self.offsets.nbytes + self.values.nbytes


def _tiles(matrix: Tensor) -> Tensor:
    """[out, in] as contiguous [strips, chunks, tiles, rows, columns], padded with zeros."""
    out, ins = matrix.shape
    width = _TILES * _COLUMNS
    whole = F.pad(matrix, (0, -ins % width, 0, -out % _ROWS))
    strips, chunks = len(whole) // _ROWS, whole.shape[1] // width
    apart = whole.view(strips, _ROWS, chunks, _TILES, _COLUMNS)
    return apart.permute(0, 2, 3, 1, 4).contiguous()
