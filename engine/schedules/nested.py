"""Shared-weights nested masks (S4): several sparsities over one set of weights."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from ..errors import BadInput
from ..info import LayerInfo
from ..patterns import Pattern
from ..settings import setting
from .base import SCHEDULES, Schedule


@SCHEDULES.register
@dataclass(frozen=True)
class Nested(Schedule):
    """Several levels of sparsity over one set of weights, each mask inside the looser one.

    One file holds all levels, and a running model changes between them by writing only the weights
    in which they differ. No level is trained by itself; if the plan trains, it does so once, under
    the loosest masks, and the stricter ones are chosen from what that gave.
    """

    kind: ClassVar[str] = "nested"
    label: ClassVar[str] = "Nested levels"
    rank: ClassVar[int] = 90
    levels: tuple[float, ...] = setting(
        (0.5, 0.75, 0.9),
        low=0,
        high=1,
        help="Sparsities, rising. They stand in place of those of the rules, where 0 still means "
        "that a layer stays dense.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        words = ", ".join(f"{level:g}" for level in self.levels)
        if len(self.levels) < 2:
            raise BadInput(
                f"nested: levels must be at least two sparsities, such as 0.5, 0.75, not "
                f"'{words}'; for a single one oneshot would do"
            )
        if len(self.levels) > 64:
            raise BadInput(f"nested: levels must be at most 64, not {len(self.levels)}")
        if not all(0 < level < 1 for level in self.levels):
            raise BadInput(f"nested: levels must be above 0 and below 1, not {words}")
        for looser, stricter in pairwise(self.levels):
            if looser >= stricter:
                raise BadInput(
                    f"nested: levels must rise, and {looser:g} stands before {stricter:g}"
                )

    def target(self, step: int, total: int, final: float) -> float | None:
        return final if step == 0 else None

    def misfit(self, layer: LayerInfo, pattern: Pattern) -> str | None:
        if pattern.fixed_sparsity is not None:
            return (
                f"has pattern {pattern.label}, which has one sparsity, so that there are no "
                "stricter masks inside a looser one; vector, block or element would do"
            )
        if pattern.whole:
            return (
                "goes or stays as a whole, which leaves nothing to nest; filter, block or element "
                "would do"
            )
        return None
