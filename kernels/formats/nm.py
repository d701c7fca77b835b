"""N:M: at most N entries of every M consecutive ones of a row, with small packed indices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from .base import SparseMatrix, Unfit, check_indices, check_shape, shape_of
from .bits import as_integers, bits_for, narrow, pack_integers, take, unpack_integers
from .entries import Entries

_GLANCE = 1 << 16
_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False, repr=False)
class NM(SparseMatrix):
    """What sparse tensor cores read: 2:4 takes two values and two 2-bit indices for four entries.

    `values` is [out, ceil(in / m) * n], `indices` the place of each value in its run, ascending,
    packed with as few bits as `m` needs. A last run shorter than `m` is padded. A run with fewer
    than `n` entries is filled up with zeros.

    `indices` is one stream of bits over all values in row order, each byte filled from its lowest
    bit: with b = ``bits_for(m)``, bit k of the index of value i is bit ``(b * i + k) % 8`` of byte
    ``(b * i + k) // 8``. For m = 4 a byte holds four indices, the first in its two lowest bits.
    Rows do not start at whole bytes; products read `index_words`, where they do.
    """

    kind: ClassVar[str] = "nm"
    n: int
    m: int
    values: Tensor
    indices: Tensor

    @classmethod
    def from_dense(cls, matrix: Tensor, n: int = 2, m: int = 4) -> Self:
        """See `SparseMatrix.from_dense`; raises Unfit if a run of `m` holds more than `n`."""
        return cls._pack(n, m, matrix, ((runs, runs != 0) for runs in _parts(matrix, m)))

    @classmethod
    def from_entries(cls, entries: Entries, n: int = 2, m: int = 4) -> Self:
        """See `SparseMatrix.from_entries`; raises Unfit if a run of `m` has more than `n`."""
        matrix, kept = entries.to_dense(), entries.mask()
        both = zip(_parts(matrix, m), _parts(kept, m), strict=True)
        return cls._pack(n, m, matrix, both)

    @classmethod
    def _pack(cls, n: int, m: int, matrix: Tensor, parts: Iterable[tuple[Tensor, Tensor]]) -> Self:
        """Store the `parts` of `matrix`, each as its runs and which of their entries are kept."""
        if not 1 <= n <= m:
            raise ValueError(f"{n}:{m} is no N:M pattern")
        out, ins = matrix.shape
        lane = narrow(torch.arange(m, device=matrix.device), m)
        values, places = [], []
        for runs, kept in parts:
            chosen = _filled(kept, n)
            values.append(take(torch.where(kept, runs, 0), chosen))  # no signs of zeros
            places.append(take(lane.expand_as(runs), chosen))
        width = -(-ins // m) * n
        indices = pack_integers(torch.cat(places), bits_for(m))
        return cls((out, ins), n, m, torch.cat(values).view(out, width), indices)

    @cached_property
    def places(self) -> Tensor:
        """The place of each of `values` in its run, in its shape, as narrow as `m` allows."""
        flat = unpack_integers(self.indices, bits_for(self.m), self.values.numel())
        return narrow(flat, self.m - 1).view_as(self.values)

    @cached_property
    def index_words(self) -> Tensor:
        """The indices with each row in words of its own, for products: int32 [out, words].

        With b = ``bits_for(m)`` a word holds ``per = 32 // b`` indices, the first in the lowest
        bits: that of the value in column j of `values` is ``(word[j // per] >> (j % per * b))``,
        its lowest b bits, and a row has ``ceil(width / per)`` words. No index lies across two
        words, and the bits that are left over are 0. For m = 4 a word holds 16 indices of 2 bits:
        the runs of 32 columns at 2:4, one 2:4 run in each 4 bits.
        """
        out, width = self.values.shape
        bits = bits_for(self.m)
        per = 32 // bits
        lanes = pad(self.places.long(), (0, -width % per)).view(out, -(-width // per), per)
        words = (lanes << (torch.arange(per, device=lanes.device) * bits)).sum(dim=2)
        return words.to(torch.int32)  # the highest bit becomes the sign

    def entries(self) -> Entries:
        """The non-zeros: a kept zero looks like filling."""
        rows, columns = torch.nonzero(self.values, as_tuple=True)
        inside = self.places.long()[rows, columns]
        wide = columns // self.n * self.m + inside
        return Entries(self.shape, rows.contiguous(), wide, self.values[rows, columns])

    def to_dense(self) -> Tensor:
        out, ins = self.shape
        values = self.values.reshape(-1, self.n)
        places = self.places.long().view_as(values)
        runs = values.new_zeros(len(values), self.m)
        # As integers: `scatter_` does not keep the bits of a bfloat16 NaN.
        as_integers(runs).scatter_(1, places, as_integers(values))
        return runs.view(out, -(-ins // self.m) * self.m)[:, :ins].contiguous()

    def parts(self) -> dict[str, Tensor]:
        return {"values": self.values, "indices": self.indices}

    def meta(self) -> dict[str, Any]:
        return {**super().meta(), "n": self.n, "m": self.m}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        (out, ins), n, m = shape_of(meta), meta["n"], meta["m"]
        if type(n) is not int or type(m) is not int or not 1 <= n <= m:
            raise ValueError(f"{n!r}:{m!r} is no N:M pattern")
        values, indices = parts["values"], parts["indices"]
        check_shape("values", values, (out, -(-ins // m) * n))
        stored = cls((out, ins), n, m, values, indices)
        places = stored.places.long()
        check_indices("indices", places.flatten(), m)
        if bool((places.reshape(-1, n).diff(dim=1) <= 0).any()):
            raise ValueError("indices must ascend in each run")
        beyond = places[:, -n:] >= (ins % m or m)
        if torch.count_nonzero(values[:, -n:].masked_fill(~beyond, 0)):
            raise ValueError("values beyond the last column must be zero")
        return stored


def fullest(matrix: Tensor, m: int) -> int:
    """The most non-zeros in any run of `m` consecutive entries of a row: the N that would fit."""
    # A matrix without the pattern mostly has a full run in its first rows; then that is all.
    first = _fullest(matrix[: 1 + _GLANCE // max(1, matrix.shape[1])], m)
    return first if first == m else _fullest(matrix, m)


def _fullest(matrix: Tensor, m: int) -> int:
    counts = (_counts(runs != 0) for runs in _parts(matrix, m))
    return max((int(count.max()) for count in counts if count.numel()), default=0)


def _filled(kept: Tensor, n: int) -> Tensor:
    """`kept` [runs, m] with so many of each run's first zeros that `n` entries are True."""
    runs, m = kept.shape
    counts = _counts(kept)
    if runs and int(counts.max()) > n:
        raise Unfit(f"the matrix is not {n}:{m}: a run of {m} entries holds more than {n}")
    zeros = (~kept).cumsum(dim=1, dtype=torch.int16)
    return kept | (zeros <= (n - counts).unsqueeze(1))


def _counts(kept: Tensor) -> Tensor:
    return kept.sum(dim=1, dtype=torch.int16)


def _parts(matrix: Tensor, m: int) -> Iterator[Tensor]:
    """The rows cut into runs, [runs, m], the last of each row padded with zeros; some at a time."""
    columns = matrix.shape[1]
    for rows in matrix.detach().split(max(1, _AT_ONCE // max(1, columns))):
        yield (pad(rows, (0, -columns % m)) if columns % m else rows).reshape(-1, m)
