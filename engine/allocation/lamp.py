"""LAMP allocation (S1 eq. 4; Lee et al. 2021): one threshold over scores that layers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ..errors import BadInput
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
        ranked = {path: replace(s, units=partial(_lamp, path, s)) for path, s in shares.items()}
        return cut(ranked, budget)


def _lamp(path: str, share: Share) -> Tensor:
    """Each unit's total score over the sum of the totals of all units at least as good."""
    units = share.units()
    if bool((units < 0).any()):
        raise BadInput(
            f"allocation lamp needs scores of at least 0, and those of {path} are signed; "
            "choose global or another criterion"
        )
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
