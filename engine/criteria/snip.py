"""SNIP, connection sensitivity (S1 [37], Lee et al. 2019, eq. 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..settings import setting
from .base import CRITERIA, NOTHING, Criterion, Statistics, samples

if TYPE_CHECKING:
    from torch import Tensor


@CRITERIA.register
@dataclass(frozen=True)
class Snip(Criterion):
    """Sensitivity of the loss to each connection: |w·g|, at the weights as they are.

    Made for networks before training, together with the global threshold.
    """

    kind: ClassVar[str] = "snip"
    label: ClassVar[str] = "SNIP"
    rank: ClassVar[int] = 40
    needs: ClassVar[frozenset[str]] = frozenset({"gradient"})
    share: str = setting(
        "model",
        choices=("model", "layer"),
        help="What a sensitivity is a share of. The publication divides by the sum over the whole "
        "model, which changes no order; layer divides by the layer's own sum, so that under a "
        "global threshold all layers count alike. Within a layer both are the same.",
    )
    samples: int = samples()

    def scores(self, weight: Tensor, statistics: Statistics = NOTHING) -> Tensor:
        sensitivity = (weight.detach().float() * statistics.required("gradient")).abs_()
        if self.share == "layer":
            sensitivity /= sensitivity.sum().clamp_min(1e-30)
        return sensitivity
