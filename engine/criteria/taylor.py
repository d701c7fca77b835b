"""First-order Taylor expansion of the loss (S1 [16], Molchanov et al. 2017 and 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..settings import setting
from .base import CRITERIA, NOTHING, Criterion, Statistics, samples

if TYPE_CHECKING:
    from torch import Tensor


@CRITERIA.register
@dataclass(frozen=True)
class Taylor(Criterion):
    """Weights whose removal changes the loss least go first, to first order: w times its gradient.

    The gradient is the mean over calibration samples.
    """

    kind: ClassVar[str] = "taylor"
    label: ClassVar[str] = "Taylor"
    rank: ClassVar[int] = 30
    needs: ClassVar[frozenset[str]] = frozenset({"gradient"})
    form: str = setting(
        "squared",
        choices=("squared", "absolute"),
        help="squared ranks by (w·g)², as the publication of 2019; absolute by |w·g|. For single "
        "weights that is the same order.",
    )
    samples: int = samples()

    def scores(self, weight: Tensor, statistics: Statistics = NOTHING) -> Tensor:
        change = weight.detach().float() * statistics.required("gradient")
        return change.square_() if self.form == "squared" else change.abs_()
