"""What every storage format of a matrix W[out, in] is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from .entries import Entries


class Unfit(ValueError):
    """The matrix does not have the layout that the format stores."""


@dataclass(frozen=True, eq=False)
class SparseMatrix(ABC):
    """A matrix of `shape` (out, in), stored so that zeros cost little.

    Exact for every floating dtype: each entry other than zero comes back bit for bit, in place.
    The one thing not kept is the sign of a zero: ``-0.0`` is a zero like any other and comes back
    as ``+0.0`` (`Dense` alone keeps it). Tensors stay on the device of the matrix. A format never
    changes once it is made.
    """

    kind: ClassVar[str]
    shape: tuple[int, int]

    @classmethod
    def from_dense(cls, matrix: Tensor) -> Self:
        """Store a floating [out, in] matrix; raises Unfit if its zeros lie otherwise."""
        return cls.from_entries(Entries.of(matrix))

    @classmethod
    def from_mask(cls, matrix: Tensor, mask: Tensor, **settings: Any) -> Self:
        """Store the entries of [out, in] `matrix` where the bool `mask` is True.

        Unlike `from_dense` it does not ask whether they are zero: a weight that has just been grown
        is, and belongs to the structure. `settings` and errors are those of `from_entries`.
        """
        build: Any = cls.from_entries
        stored: Self = build(Entries.of(matrix, mask), **settings)
        return stored

    def to_dense(self) -> Tensor:
        """The matrix again, [out, in], contiguous, in its own dtype."""
        return self.entries().to_dense()

    @classmethod
    @abstractmethod
    def from_entries(cls, entries: Entries) -> Self:
        """Store a matrix of which only `entries` are not zero; raises Unfit as `from_dense`."""

    @abstractmethod
    def entries(self) -> Entries:
        """The stored entries; those that are zero too, where the format tells them from filling."""

    @abstractmethod
    def parts(self) -> dict[str, Tensor]:
        """The tensors that hold it, by name, contiguous: what a file has to keep beside `meta`."""

    def meta(self) -> dict[str, Any]:
        """The plain JSON values that `from_parts` needs beside the tensors."""
        return {"shape": list(self.shape)}

    @classmethod
    @abstractmethod
    def from_parts(cls, parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        """Read what `parts` and `meta` gave.

        Raises ValueError or KeyError where they are not what this format writes, so that a damaged
        file is refused and never read out of bounds.
        """

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self.parts().values())

    def __repr__(self) -> str:
        words = (
            f"{name}: {str(part.dtype).removeprefix('torch.')} {list(part.shape)}"
            for name, part in self.parts().items()
        )
        return f"{type(self).__name__}({list(self.shape)}, {', '.join(words)}; {self.nbytes} bytes)"


Candidate = Callable[[Tensor], SparseMatrix]


def smallest(matrix: Tensor, candidates: Iterable[Candidate]) -> SparseMatrix:
    """Store `matrix` in the candidate that takes the fewest bytes; the earlier one among equals.

    A candidate is a format's ``from_dense``, or a partial of it. Those that raise Unfit are left
    out; raises Unfit if none fits.
    """
    best: SparseMatrix | None = None
    for candidate in candidates:
        try:
            stored = candidate(matrix)
        except Unfit:
            continue
        if best is None or stored.nbytes < best.nbytes:
            best = stored
    if best is None:
        raise Unfit("none of the formats fits the matrix")
    return best


def shape_of(meta: Mapping[str, Any]) -> tuple[int, int]:
    """The (out, in) of a format's meta; raises ValueError if it is none."""
    out, ins = meta["shape"]
    if type(out) is not int or type(ins) is not int or out < 0 or ins < 0:
        raise ValueError(f"not the shape of a matrix: {meta['shape']!r}")
    return out, ins


def check_shape(name: str, part: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `part` has `shape`."""
    if tuple(part.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(part.shape)}, expected {shape}")


def check_indices(name: str, indices: Tensor, limit: int) -> None:
    """Raise ValueError unless the 1-d `indices` all lie in [0, limit)."""
    wide = indices.long()
    if wide.dim() != 1 or (wide.numel() and not 0 <= int(wide.min()) <= int(wide.max()) < limit):
        raise ValueError(f"{name} must be a list of indices below {limit}")


def check_rising(name: str, numbers: Tensor) -> None:
    """Raise ValueError unless the 1-d `numbers` ascend and none comes twice."""
    if bool((numbers.diff() <= 0).any()):
        raise ValueError(f"{name} must ascend")


def check_compressed(
    starts_name: str, starts: Tensor, name: str, indices: Tensor, shape: tuple[int, int]
) -> None:
    """Raise ValueError unless the `indices` ascend in each of the lines that `starts` marks.

    `shape` is how many lines there are, and what the indices are below.
    """
    lines, limit = shape
    check_shape(starts_name, starts, (lines + 1,))
    check_indices(name, indices, limit)
    wide = starts.long()
    if int(wide[0]) != 0 or int(wide[-1]) != len(indices) or bool((wide.diff() < 0).any()):
        raise ValueError(f"{starts_name} must rise from 0 to the number of {name}")
    ascends = indices.long().diff() > 0
    begins = torch.zeros(len(indices) + 1, dtype=torch.bool, device=indices.device)
    begins[wide] = True
    if not bool((ascends | begins[1:-1]).all()):
        raise ValueError(f"{name} must ascend in each line")
