"""Sparse training from scratch, in CSR from the first step to the last (S3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..errors import BadInput
from ..info import LayerInfo
from ..patterns import Pattern
from ..settings import setting
from .base import SCHEDULES, Schedule
from .curve import three_quarters

_REPLACED = ("Linear", "Conv1D", "Conv1d", "Conv2d", "Conv3d")


@SCHEDULES.register
@dataclass(frozen=True)
class SparseTraining(Schedule):
    """Trains from scratch with sparse weights only: no dense weight or gradient is ever in memory.

    Layers with a rule are held in CSR. They begin with the same number of inputs for every output;
    now and then the smallest weights go and new ones come where they help most.
    """

    kind: ClassVar[str] = "sparse-training"
    label: ClassVar[str] = "Sparse from scratch"
    rank: ClassVar[int] = 75
    trains: ClassVar[bool] = True
    growth: str = setting(
        "gradient",
        choices=("gradient", "full", "random", "none"),
        help="Where new weights come: at the largest gradients of the outputs that cost most, at "
        "the largest of all, by chance, or nowhere: then the first topology stays.",
    )
    share: float = setting(
        0.5,
        low=0.0,
        high=0.5,
        label="Target share",
        help="Share of a layer's weights that is exchanged at a time; the threshold is steered "
        "towards it.",
    )
    falls: bool = setting(
        True,
        label="Share falls",
        help="Let the share fall along a cosine, to almost nothing at the last exchange.",
    )
    every: int = setting(50, low=1, help="Steps between two exchanges.")
    end: int | None = setting(None, low=1, help="Step of the last exchange; empty: at 3/4.")
    initial: float | None = setting(
        None,
        low=0.0,
        high=0.9999,
        label="Sparsity at first",
        help="Sparsity at the beginning, from which it rises or falls evenly to the rules' until "
        "the last exchange; empty: theirs all along.",
    )
    threshold: float = setting(
        0.05,
        low=1e-6,
        high=10.0,
        label="Threshold at first",
        help="Size below which weights go at first, as a share of the deviation that they are "
        "drawn with. Too large a one takes most of them at once.",
    )
    adjust: float = setting(
        1.3,
        low=1.001,
        high=2.0,
        label="Adjustment",
        help="Factor by which the threshold grows or shrinks after an exchange that took too few "
        "or too many.",
    )
    cleanup: bool = setting(
        True,
        label="Clean up dead neurons",
        help="Also exchange the weights into outputs that nothing reads any more, and out of "
        "outputs that read nothing.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.growth == "none" and self.initial is not None:
            raise BadInput(
                "sparse-training: growth none keeps the first topology, so that sparsity cannot "
                "change; leave initial empty or choose another growth"
            )

    @property
    def draws_anew(self) -> bool:
        return True

    def last_step(self, total: int) -> int:
        return 0 if self.growth == "none" else three_quarters(self.end, 0, total)

    def exchanges(self, step: int, total: int) -> bool:
        """Whether weights are exchanged before optimizer step `step`."""
        last = self.last_step(total)
        return 0 < step <= last and (step % self.every == 0 or step == last)

    def share_at(self, step: int, total: int) -> float:
        """The target share of the exchange before optimizer step `step`."""
        # It would be zero one exchange after the last.
        done = step / (self.last_step(total) + self.every) if self.falls else 0.0
        return self.share / 2 * (1 + math.cos(math.pi * done))

    def target(self, step: int, total: int, final: float) -> float | None:
        if step != 0 and not self.exchanges(step, total):
            return None
        if self.initial is None:
            return final
        return self.initial + (final - self.initial) * step / self.last_step(total)

    @property
    def course_words(self) -> str:
        return "sparse all along, in memory too"

    def misfit(self, layer: LayerInfo, pattern: Pattern) -> str | None:
        if pattern.kind != "element":
            return (
                f"has pattern {pattern.label}, but sparse-training holds single weights, in CSR; "
                "element would do"
            )
        if not (layer.replaceable and layer.kind in _REPLACED):
            return (
                "has no form in CSR that could stand in its place: sparse-training replaces linear "
                "layers and convolutions; leave it out of the plan"
            )
        if layer.gemm is not None and layer.gemm.groups > 1:
            return (
                "is a convolution of several groups, which has no form in CSR; leave it out of "
                "the plan"
            )
        if layer.shares:
            return f"shares its weight with {layer.shares[0]}; leave it out of the plan"
        return None
