"""Optimal brain damage with the diagonal empirical Fisher (S1 [18], LeCun et al. 1989)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..settings import setting
from .base import CRITERIA, NOTHING, Criterion, Statistics, samples

if TYPE_CHECKING:
    from torch import Tensor


@CRITERIA.register
@dataclass(frozen=True)
class Fisher(Criterion):
    """Weights whose removal changes the loss least go first, to second order: w² · E[g²] / 2.

    E[g²], the mean of squared gradients over calibration samples, stands for the Hessian's
    diagonal.
    """

    kind: ClassVar[str] = "fisher"
    label: ClassVar[str] = "Fisher (OBD)"
    rank: ClassVar[int] = 60
    needs: ClassVar[frozenset[str]] = frozenset({"fisher"})
    batch: int = setting(
        4,
        low=1,
        high=1024,
        help="Samples whose gradients are summed before squaring: 1 is exact, more is faster.",
    )
    samples: int = samples()

    def scores(self, weight: Tensor, statistics: Statistics = NOTHING) -> Tensor:
        return weight.detach().float().square() * statistics.required("fisher") / 2
