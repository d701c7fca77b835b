"""LAMP allocation (S1 eq. 4; Lee et al. 2021): one threshold over scores that layers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from .base import ALLOCATIONS, Allocation, Share
from .global_ import cut

if TYPE_CHECKING:
    from torch import Tensor


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

    def allocate(self, shares: Mapping[str, Share]) -> dict[str, float]:
        budget = sum(share.asked * share.size for share in shares.values())
        return cut(
            {path: replace(s, units=lambda s=s: _lamp(s)) for path, s in shares.items()}, budget
        )


def _lamp(share: Share) -> Tensor:
    """Each unit's total score over the sum of the totals of all units at least as good."""
    units = share.units()
    total = units if share.sizes is None else units * share.sizes.to(units.device)
    return lamp_scores(total)


def lamp_scores(scores: Tensor) -> Tensor:
    """``s / Σ s'`` over all s' >= s, float32 in the shape of `scores` (additive and >= 0)."""
    import torch

    flat = scores.reshape(-1).double()
    ranked = flat.sort().values
    at_least = ranked.flip(0).cumsum(0).flip(0)
    first = torch.searchsorted(ranked, flat)
    return (flat / at_least[first].clamp_min(1e-300)).float().view(scores.shape)
