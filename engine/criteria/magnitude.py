"""Magnitude (S0, S1, S4): small weights matter least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..settings import setting
from .base import CRITERIA, NOTHING, Criterion, Statistics

if TYPE_CHECKING:
    from torch import Tensor


@CRITERIA.register
@dataclass(frozen=True)
class Magnitude(Criterion):
    """Small weights go first; of larger units the ones with the smallest norm.

    Needs no data.
    """

    kind: ClassVar[str] = "magnitude"
    label: ClassVar[str] = "Magnitude"
    rank: ClassVar[int] = 10
    entrywise: ClassVar[bool] = True
    norm: int = setting(2, low=1, high=2, help="1 sums |w| over a unit, 2 sums w².")

    def scores(self, weight: Tensor, statistics: Statistics = NOTHING) -> Tensor:
        weight = weight.detach().float()
        return weight.abs() if self.norm == 1 else weight.square()
