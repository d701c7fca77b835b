"""What every criterion is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..settings import Family, Setting, setting

if TYPE_CHECKING:
    from torch import Tensor

    from ..gemm import Gemm
    from ..info import LayerInfo
    from ..patterns import Pattern

NEEDS = ("gradient", "fisher", "movement", "inputs", "hessian")
"""The statistics that a criterion can ask for; all come from calibration data."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is known of one layer beside its weight.

    `path` and `seed` make random choices differ by layer and repeat. The tensors are float32 on
    the GEMM view, on the weight's device, and None where the criterion has not asked for them:

    - `gradient` [out, in]: the mean over samples of ∂L/∂W, L the cross-entropy of one sample;
    - `fisher` [out, in]: the mean over samples of (∂L/∂W)²;
    - `movement` [out, in]: -W · ∂L/∂W, summed over the calibration's steps;
    - `inputs` [groups, in]: the L2 norm of each input over positions, root mean square over
      samples;
    - `hessian` [groups, in, in]: X·Xᵀ of the layer's inputs X[in, positions], mean over samples.

    Groups are equal stretches of outputs that see inputs of their own.
    """

    path: str = ""
    seed: int = 0
    gradient: Tensor | None = None
    fisher: Tensor | None = None
    movement: Tensor | None = None
    inputs: Tensor | None = None
    hessian: Tensor | None = None

    def required(self, name: str) -> Tensor:
        """The statistic of this name; raises ValueError where it was not collected."""
        found: Tensor | None = getattr(self, name)
        if found is None:
            raise ValueError(f"the {name} of {self.path or 'the layer'} was not collected")
        return found


NOTHING = Statistics()
"""For criteria that look at the weight alone."""


@dataclass(frozen=True)
class Criterion(Setting):
    """A score for each entry of W[out, in]; the lowest go first.

    Scores are additive: the score of a unit is the mean over its entries.

    `needs` are the statistics that are collected from calibration data before `scores` is called;
    such a criterion has a field ``samples``. `updates_weights` says that `prune` also gives the
    kept weights new values. `signed` says that scores may be negative. `entrywise` says that the
    score of an entry depends on that entry of the weight alone.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    updates_weights: ClassVar[bool] = False
    signed: ClassVar[bool] = False
    entrywise: ClassVar[bool] = False

    def scores(self, weight: Tensor, statistics: Statistics = NOTHING) -> Tensor:
        """Return float32 [out, in] scores of a weight [out, in], finite and >= 0 if not `signed`.

        Raises ValueError if a statistic that the criterion needs is missing.
        """
        raise NotImplementedError

    def misfit(self, layer: LayerInfo, pattern: Pattern | None = None) -> str | None:
        """Why this cannot score `layer` (or not with `pattern`), in words after the layer's path.

        None if it can.
        """
        hidden = self.needs & {"inputs", "hessian"}
        if hidden and layer.kind in _RECURRENT:
            return (
                f"is part of {layer.kind}, whose inputs at every step cannot be seen from outside, "
                f"as {self.label} needs; magnitude or taylor would fit"
            )
        if hidden and layer.gemm is not None and layer.gemm.stacked:
            return (
                "is a stack of experts, whose inputs cannot be seen from outside, as "
                f"{self.label} needs; magnitude or taylor would fit"
            )
        return None

    def prune(
        self,
        weight: Tensor,
        pattern: Pattern,
        sparsity: float,
        gemm: Gemm,
        statistics: Statistics = NOTHING,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the bool [out, in] mask of `pattern` and, where it `updates_weights`, a new W.

        The new W is float32 [out, in] and 0 where pruned.
        """
        return pattern.mask(self.scores(weight, statistics), sparsity, gemm), None


_RECURRENT = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")

CRITERIA: Family[Criterion] = Family("criterion", __package__)


def samples(default: int = 256) -> int:
    """The field of a criterion that takes calibration data."""
    made: int = setting(
        default,
        low=1,
        high=1_000_000,
        help="Samples of the training data to take statistics from, drawn by the plan's seed.",
    )
    return made
