"""Movement (S0; Sanh et al., Movement pruning: adaptive sparsity by fine-tuning, 2020, eq. 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import CRITERIA, NOTHING, Criterion, Statistics, samples

if TYPE_CHECKING:
    from torch import Tensor


@CRITERIA.register
@dataclass(frozen=True)
class Movement(Criterion):
    """Weights that a training step would move towards zero go first: -w·g, summed over steps.

    Here the weights rest while the calibration data pass. Weights that are zero already go before
    all others.
    """

    kind: ClassVar[str] = "movement"
    label: ClassVar[str] = "Movement"
    rank: ClassVar[int] = 50
    needs: ClassVar[frozenset[str]] = frozenset({"movement"})
    signed: ClassVar[bool] = True
    samples: int = samples()

    def scores(self, weight: Tensor, statistics: Statistics = NOTHING) -> Tensor:
        scores = statistics.required("movement").clone()
        gone = weight.detach() == 0
        if bool(gone.any()):
            # Their movement is zero too, which would rank them above all that shrink.
            scores[gone] = 2 * scores.min() - 1e-30
        return scores
