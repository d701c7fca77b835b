"""Nested levels as numbers: which one is meant, and what sharing weights costs. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .errors import BadInput

_SAME = 1e-9


def index_of(levels: Sequence[float], wanted: float | None, owner: object) -> int:
    """The place of the level `wanted` among `levels`; None is the loosest, the first.

    Raises BadInput that names `owner` and its levels for one that it does not have.
    """
    if wanted is None:
        return 0
    if not isinstance(wanted, (int, float)):
        raise BadInput(f"a level is a sparsity such as 0.5, not {wanted!r}")
    if not levels:
        raise BadInput(f"{owner} holds one sparsity and no levels; leave the level out")
    for index, level in enumerate(levels):
        if abs(level - wanted) < _SAME:
            return index
    names = ", ".join(f"{level:g}" for level in levels)
    raise BadInput(f"{owner} has no level {wanted:g}; its levels are {names}")


@dataclass(frozen=True)
class SharedBytes:
    """What a file with nested levels takes, as written, and what it saves.

    `weights` entries are under a mask and take `dense` bytes without one; the loosest level keeps
    `kept` of them. Of the file `values` bytes are those entries, `positions` say where they lie,
    `index` at which levels each is kept; the rest of `total` is what has no mask, and the header.
    `separate` are the sizes of one compressed file for each level instead.
    """

    weights: int
    kept: int
    dense: int
    values: int
    positions: int
    index: int
    total: int
    separate: tuple[int, ...]

    @property
    def break_even(self) -> float | None:
        """The sparsity of the loosest level from which on zeros save more than indices cost.

        With w bits a weight, p of positions for each weight and i of level index for each kept one,
        all as written: zeros save s·w, indices cost p + (1 - s)·i, and both are equal at
        s = (p + i) / (w + i). None without weights under masks.
        """
        if not self.weights or not self.kept:
            return None
        wide = 8 * self.dense / self.weights
        position = 8 * self.positions / self.weights
        each = 8 * self.index / self.kept
        return (position + each) / (wide + each)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the break-even sparsity."""
        separate = list(self.separate)
        return {**vars(self), "separate": separate, "break_even": self.break_even}
