"""Channels as atoms: which channels of which tensors are one and the same.

An *atom* is one channel of one tensor. Operations that tie channels of several tensors together
(an addition, a norm, a depthwise convolution) unite their atoms; a class of united atoms goes or
stays as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Layout:
    """The channels of one tensor.

    `dim` is the channel dimension. `atoms` is int64 and `zero` bool, both [channels] along it;
    `zero` says that a channel is exactly zero for every input of the model. `seen` are the layers
    whose outputs, whole and in order, these channels are.
    """

    dim: int
    atoms: Ids
    zero: Flags
    seen: tuple[str, ...] = ()


class Spaces:
    """A union-find over atoms, with the reasons why some of them must stay."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._reasons: dict[int, str] = {}

    def fresh(self, count: int) -> Ids:
        """Return `count` new atoms."""
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def unite(self, left: Ids, right: Ids) -> None:
        """Tie two equally long runs of channels together, one by one."""
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            a, b = self._find(a), self._find(b)
            self._parent[max(a, b)] = min(a, b)

    def freeze(self, atoms: Ids, reason: str) -> None:
        """Say that these channels can't be removed; the first reason counts."""
        for atom in atoms.tolist():
            self._reasons.setdefault(atom, reason)

    def _find(self, atom: int) -> int:
        parent = self._parent
        while parent[atom] != atom:
            parent[atom] = parent[parent[atom]]
            atom = parent[atom]
        return atom

    def classes(self) -> Ids:
        """The class of every atom so far, int64 [atoms]: the lowest atom in it."""
        return np.array([self._find(atom) for atom in range(len(self._parent))], dtype=np.int64)

    def reasons(self) -> dict[int, str]:
        """Why a class must stay, by class; a class that is free is not in it."""
        reasons: dict[int, str] = {}
        for atom, reason in self._reasons.items():
            reasons.setdefault(self._find(atom), reason)
        return reasons


def flags(tensor: Any) -> Flags:
    """A bool torch tensor as a NumPy array on the CPU."""
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.bool_)
