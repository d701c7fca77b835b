"""DOK, dictionary of keys: the kept entries as a mapping from (row, column) to value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from .base import SparseMatrix
from .coo import COO
from .entries import Entries


@dataclass(frozen=True, eq=False, repr=False)
class DOK(SparseMatrix, Mapping[tuple[int, int], float]):
    """For looking at single entries: ``dok[3, 5]``, ``(3, 5) in dok``, ``dok.items()``.

    It reads as SciPy's ``dok_array`` does: an entry that is not stored is 0.0, ``len`` counts the
    stored ones, negative indices count from the end, and an index beyond the matrix is an
    IndexError. Keys come row by row. Like every format it never changes; ``dok | changes`` is a
    new one. The tensors are those of a `COO`; the dictionary is made when it is first asked for.
    """

    kind: ClassVar[str] = "dok"
    coo: COO

    @classmethod
    def of(
        cls,
        items: Mapping[tuple[int, int], float],
        shape: tuple[int, int],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Store a plain dictionary, its zeros too. Raises IndexError for a key beyond `shape`."""
        ordered = sorted(items)
        for key in ordered:
            if not _inside(key, shape):
                raise IndexError(f"{key} is not in a matrix of {shape}")
        keys = torch.tensor(ordered, dtype=torch.int64, device=device).view(-1, 2)
        values = torch.tensor([items[key] for key in ordered], dtype=dtype, device=device)
        rows, columns = keys.t().contiguous()
        return cls.from_entries(Entries(shape, rows, columns, values))

    @cached_property
    def _items(self) -> dict[tuple[int, int], float]:
        keys = zip(self.coo.rows.tolist(), self.coo.columns.tolist(), strict=True)
        return dict(zip(keys, self.coo.values.tolist(), strict=True))

    def __getitem__(self, key: tuple[int, int]) -> float:
        (row, column), (out, ins) = key, self.shape
        place = (row + out if row < 0 else row, column + ins if column < 0 else column)
        if not _inside(place, self.shape):
            raise IndexError(f"{key} is not in a matrix of {self.shape}")
        return self._items.get(place, 0.0)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self.coo.values)

    def get(self, key: tuple[int, int], default: Any = 0.0) -> Any:
        """The stored entry, or `default`."""
        return self._items.get(key, default)

    def __or__(self, changes: Mapping[tuple[int, int], float]) -> Self:
        values = self.coo.values
        return self.of({**self._items, **changes}, self.shape, values.dtype, values.device)

    def entries(self) -> Entries:
        return self.coo.entries()

    @classmethod
    def from_entries(cls, entries: Entries) -> Self:
        return cls(entries.shape, COO.from_entries(entries))

    def parts(self) -> dict[str, Tensor]:
        return self.coo.parts()

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        coo = COO.from_parts(parts, meta)
        return cls(coo.shape, coo)


def _inside(key: tuple[int, int], shape: tuple[int, int]) -> bool:
    return 0 <= key[0] < shape[0] and 0 <= key[1] < shape[1]
