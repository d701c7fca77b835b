"""Random scores: the baseline that any other criterion has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import CRITERIA, NOTHING, Criterion, Statistics

if TYPE_CHECKING:
    from torch import Tensor


@CRITERIA.register
@dataclass(frozen=True)
class Random(Criterion):
    """Any weight may go first: a baseline to compare others with.

    Drawn for each layer by the plan's seed; the same seed gives the same masks. Needs no data.
    """

    kind: ClassVar[str] = "random"
    label: ClassVar[str] = "Random"
    rank: ClassVar[int] = 90

    def scores(self, weight: Tensor, statistics: Statistics = NOTHING) -> Tensor:
        import hashlib

        import torch

        text = f"{statistics.seed} {statistics.path}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(weight.shape, generator=generator).to(weight.device)
