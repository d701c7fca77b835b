"""What every criterion is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..settings import Family, Setting

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Criterion(Setting):
    """A score for each entry of W[out, in]; the lowest go first.

    Scores are additive: the score of a unit is the mean over its entries.
    """

    def scores(self, weight: Tensor) -> Tensor:
        """Return float32 [out, in] scores, finite and >= 0, of a weight [out, in]."""
        raise NotImplementedError


CRITERIA: Family[Criterion] = Family("criterion", __package__)
