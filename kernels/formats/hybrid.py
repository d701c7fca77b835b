"""Hybrid: ELL for what most rows have, COO for the rest of the longer ones (HYB).

Bell and Garland, "Implementing sparse matrix-vector multiplication on throughput-oriented
processors", SC 2009, section 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from .base import SparseMatrix, shape_of
from .bits import narrow
from .coo import COO
from .ell import ELL
from .entries import Entries


@dataclass(frozen=True, eq=False, repr=False)
class Hybrid(SparseMatrix):
    """The smallest where most rows keep about equally many entries and some keep far more.

    `ell` holds the first entries of each row, as many as it is wide, and `rest` those that come
    after them. The width is that which takes the fewest bytes.
    """

    kind: ClassVar[str] = "hybrid"
    ell: ELL
    rest: COO

    def to_dense(self) -> Tensor:
        dense = self.ell.to_dense()
        dense[self.rest.rows.long(), self.rest.columns.long()] = self.rest.values
        return dense

    def entries(self) -> Entries:
        first, rest = self.ell.entries(), self.rest.entries()
        rows, columns, values = (
            torch.cat([getattr(first, name), getattr(rest, name)])
            for name in ("rows", "columns", "values")
        )
        return Entries.unordered(self.shape, rows, columns, values)

    @classmethod
    def from_entries(cls, entries: Entries, width: int | None = None) -> Self:
        """See `SparseMatrix.from_entries`. `width` is the best unless it is given."""
        width = best_width(entries) if width is None else width
        first = entries.places < width
        ell = ELL.from_entries(entries.where(first), width)
        return cls(entries.shape, ell, COO.from_entries(entries.where(~first)))

    def parts(self) -> dict[str, Tensor]:
        ell = {f"ell_{name}": part for name, part in self.ell.parts().items()}
        return ell | {f"rest_{name}": part for name, part in self.rest.parts().items()}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        ell = ELL.from_parts(_of(parts, "ell_"), meta)
        rest = COO.from_parts(_of(parts, "rest_"), meta)
        if ell.values.dtype != rest.values.dtype:
            raise ValueError("both parts must have one dtype")
        if ell.width:
            rows, last = rest.rows.long(), ell.columns.long()[:, -1]
            after = ell.kept()[rows, -1] & (last[rows] < rest.columns.long())
            if not bool(after.all()):
                raise ValueError("the rest of a row must come after its full part")
        return cls(shape_of(meta), ell, rest)


def best_width(entries: Entries) -> int:
    """The width of the ELL part with which a `Hybrid` takes the fewest bytes, the least of equals.

    All widths are weighed at once: a place costs a value and a column in each row, an entry of the
    rest a value, a column and a row.
    """
    out, ins = entries.shape
    counts = entries.row_starts.diff()
    longest = int(counts.max()) if out else 0
    shorter = torch.bincount(counts, minlength=longest + 1).cumsum(0)  # or as long, by length
    # Rows longer than w, summed over all widths from w on: the entries beyond each row's first w.
    rest = (out - shorter).flip(0).cumsum(0).flip(0)
    widths = torch.arange(longest + 1, device=counts.device)
    column, row, value = _bytes(ins - 1), _bytes(out - 1), entries.values.element_size()
    count = torch.where(widths < 2**8, 1, torch.where(widths < 2**16, 2, 4))
    uneven = torch.cat([shorter.new_zeros(1), shorter[:-1]]) > 0  # some row is shorter than w
    cost = out * widths * (value + column) + rest * (value + column + row) + uneven * out * count
    return int(cost.argmin())


def _bytes(limit: int) -> int:
    return narrow(torch.zeros(0), limit).element_size()


def _of(parts: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): part for k, part in parts.items() if k.startswith(prefix)}
