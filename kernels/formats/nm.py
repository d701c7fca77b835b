"""N:M: at most N entries of every M consecutive ones of a row, with small packed indices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from .base import SparseMatrix, Unfit, check_shape, shape_of
from .bits import bits_for, narrow, pack_integers, take, unpack_integers

_GLANCE = 1 << 16
_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class NM(SparseMatrix):
    """What sparse tensor cores read: 2:4 takes two values and two 2-bit indices for four entries.

    `values` is [out, ceil(in / m) * n], `indices` the place of each value in its run, ascending,
    packed with as few bits as `m` needs. A last run shorter than `m` is padded. A run with fewer
    than `n` entries is filled up with zeros.
    """

    kind: ClassVar[str] = "nm"
    n: int
    m: int
    values: Tensor
    indices: Tensor

    @classmethod
    def from_dense(cls, matrix: Tensor, n: int = 2, m: int = 4) -> Self:
        """See `SparseMatrix.from_dense`; raises Unfit if a run of `m` holds more than `n`."""
        if not 1 <= n <= m:
            raise ValueError(f"{n}:{m} is no N:M pattern")
        out, ins = matrix.shape
        lane = narrow(torch.arange(m, device=matrix.device), m)
        values, places = [], []
        for runs in _parts(matrix, m):
            chosen = _filled(runs != 0, n)
            values.append(take(runs, chosen))
            places.append(take(lane.expand_as(runs), chosen))
        width = -(-ins // m) * n
        indices = pack_integers(torch.cat(places), bits_for(m))
        return cls((out, ins), n, m, torch.cat(values).view(out, width), indices)

    def to_dense(self) -> Tensor:
        out, ins = self.shape
        values = self.values.reshape(-1, self.n)
        places = unpack_integers(self.indices, bits_for(self.m), values.numel()).view_as(values)
        runs = values.new_zeros(len(values), self.m).scatter_(1, places, values)
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
        places = unpack_integers(indices, bits_for(m), values.numel())
        if places.numel() and int(places.max()) >= m:
            raise ValueError(f"indices must be below {m}")
        return cls((out, ins), n, m, values, indices)


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
