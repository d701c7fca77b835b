"""ELL, constant fan-in: the same number of entries in every row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from .base import SparseMatrix, Unfit, check_indices, check_shape, shape_of
from .bits import narrow, to_int32
from .entries import Entries


@dataclass(frozen=True, eq=False, repr=False)
class ELL(SparseMatrix):
    """The smallest for scattered zeros where all rows keep equally many, as in constant fan-in.

    `columns` and `values` are [out, width], row by row, columns ascending in a row and as narrow as
    the matrix allows. `counts` [out] says how many entries each row has, and is None where every
    row has `width`. A shorter row is filled up at its end with column 0 and value +0.0, so that a
    product may read all `width` places of a row, or `counts` of them.
    """

    kind: ClassVar[str] = "ell"
    columns: Tensor
    values: Tensor
    counts: Tensor | None

    @property
    def width(self) -> int:
        """Places in a row."""
        return self.columns.shape[1]

    @cached_property
    def columns32(self) -> Tensor:
        """`columns` as int32 [out, width], which every product reads; made once."""
        return to_int32(self.columns, self.shape[1])

    def kept(self) -> Tensor:
        """Bool [out, width]: True at an entry, False where a row is filled up."""
        places = torch.arange(self.width, device=self.columns.device).expand(self.columns.shape)
        return places < (self.width if self.counts is None else self.counts.long().unsqueeze(1))

    def entries(self) -> Entries:
        rows, places = torch.nonzero(self.kept(), as_tuple=True)
        columns = self.columns.long()[rows, places]
        return Entries(self.shape, rows.contiguous(), columns, self.values[rows, places])

    @classmethod
    def from_entries(cls, entries: Entries, width: int | None = None) -> Self:
        """See `SparseMatrix.from_entries`. `width` is the longest row unless it is given.

        Raises Unfit if a row is longer.
        """
        out, ins = entries.shape
        counts = entries.row_starts.diff()
        longest = int(counts.max()) if out else 0
        width = longest if width is None else width
        if longest > width:
            raise Unfit(f"a row has {longest} entries, more than {width}")
        columns = entries.columns.new_zeros(out, width)
        columns[entries.rows, entries.places] = entries.columns
        values = entries.values.new_zeros(out, width)
        values[entries.rows, entries.places] = entries.values
        same = len(entries.values) == out * width
        wide = None if same else narrow(counts, width)
        return cls(entries.shape, narrow(columns, ins - 1), values, wide)

    def parts(self) -> dict[str, Tensor]:
        named = {"columns": self.columns, "values": self.values, "counts": self.counts}
        return {name: part for name, part in named.items() if part is not None}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        out, ins = shape_of(meta)
        columns, values, counts = parts["columns"], parts["values"], parts.get("counts")
        if columns.dim() != 2 or len(columns) != out:
            raise ValueError(f"columns must be [{out}, width], not {tuple(columns.shape)}")
        check_indices("columns", columns.flatten(), ins or 1)
        check_shape("values", values, tuple(columns.shape))
        if counts is not None:
            check_shape("counts", counts, (out,))
            check_indices("counts", counts, columns.shape[1] + 1)
        stored = cls((out, ins), columns, values, counts)
        kept, wide = stored.kept(), columns.long()
        if kept[:, 1:].logical_and(wide.diff(dim=1) <= 0).any() or (ins == 0 and kept.any()):
            raise ValueError("columns must ascend in each row")
        if wide.masked_fill(kept, 0).any() or torch.count_nonzero(values.masked_fill(kept, 0)):
            raise ValueError("a row must be filled up with column 0 and value 0")
        return stored
