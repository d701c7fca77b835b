"""LAMP (S1 eq. 4; Lee et al., Layer-adaptive sparsity for magnitude-based pruning, 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import CRITERIA, NOTHING, Criterion, Statistics

if TYPE_CHECKING:
    from torch import Tensor


@CRITERIA.register
@dataclass(frozen=True)
class Lamp(Criterion):
    """w² as a share of all w² in the layer that are at least as large.

    Within a layer that is the order of magnitude. Between layers it is comparable, so it belongs
    with the global threshold; the largest weight of each layer scores 1. Needs no data.
    """

    kind: ClassVar[str] = "lamp"
    label: ClassVar[str] = "LAMP"
    rank: ClassVar[int] = 20

    def scores(self, weight: Tensor, statistics: Statistics = NOTHING) -> Tensor:
        return lamp_scores(weight.detach().double().square())


def lamp_scores(scores: Tensor) -> Tensor:
    """``s / Σ s'`` over all s' >= s, float32 in the shape of `scores` (additive and >= 0)."""
    import torch

    flat = scores.reshape(-1).double()
    ranked = flat.sort().values
    at_least = ranked.flip(0).cumsum(0).flip(0)
    first = torch.searchsorted(ranked, flat)
    return (flat / at_least[first].clamp_min(1e-300)).float().view(scores.shape)
