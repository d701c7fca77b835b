"""LAMP allocation (S1 eq. 4; Lee et al. 2021): one threshold over scores that layers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ..criteria import Criterion
from ..criteria.lamp import lamp_scores
from .base import ALLOCATIONS, EMPTY, Allocation, Share, check_floor, floor_setting
from .global_ import cut

if TYPE_CHECKING:
    from torch import Tensor

    from ..patterns import Pattern


@ALLOCATIONS.register
@dataclass(frozen=True)
class Lamp(Allocation):
    """One cut through the whole model after each score is divided by all that outrank it.

    Scores become comparable between layers, and the best unit of each layer scores 1: it is the
    last to go. The total is what the rules ask.
    """

    kind: ClassVar[str] = "lamp"
    label: ClassVar[str] = "LAMP"
    rank: ClassVar[int] = 40
    floor: float = floor_setting()

    def misfit(self, criterion: Criterion, pattern: Pattern) -> str | None:
        if not criterion.signed:
            return None
        return (
            f"would be scored by {criterion.kind}, whose scores are signed, and allocation lamp "
            "needs them to be at least 0; choose global or another criterion"
        )

    def allocate(
        self, shares: Mapping[str, Share], settled: Mapping[str, Share] = EMPTY
    ) -> dict[str, float]:
        check_floor(shares, self.floor)
        budget = sum(share.asked * share.size for share in shares.values())
        ranked = {
            path: replace(s, units=partial(_lamp, s), entries=None) for path, s in shares.items()
        }
        chosen = cut(ranked, budget, floor=self.floor)
        # Units of unequal size rank otherwise here than in the layer, which goes by their means.
        unequal = {path for path, share in shares.items() if share.sizes is not None}
        return {
            path: min(sparsity, shares[path].most(self.floor)) if path in unequal else sparsity
            for path, sparsity in chosen.items()
        }


def _lamp(share: Share) -> Tensor:
    """Each unit's total score over the sum of the totals of all units at least as good."""
    units = share.units()
    total = units if share.sizes is None else units * share.sizes.to(units.device)
    return lamp_scores(total)
