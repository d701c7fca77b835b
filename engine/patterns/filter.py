"""Filter pruning (S0, S4): one output removed, a whole row of W."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..gemm import Gemm
from .base import PATTERNS, Pattern

if TYPE_CHECKING:
    from torch import Tensor


@PATTERNS.register
@dataclass(frozen=True)
class Filter(Pattern):
    """One output (a convolution's filter, a linear layer's neuron) goes: a row of the matrix.

    With it go the bias and the norm's entries behind it. Where nothing forbids it the exported
    model really has fewer channels.
    """

    kind: ClassVar[str] = "filter"
    label: ClassVar[str] = "filter"
    rank: ClassVar[int] = 60
    unit: ClassVar[str] = "output"
    pictured_on_kernels: ClassVar[bool] = True
    format: ClassVar[str] = "grouped"
    removes: ClassVar[bool] = True

    def pool(self, scores: Tensor, gemm: Gemm) -> Tensor:
        return scores.mean(dim=1)

    def spread(self, units: Tensor, gemm: Gemm) -> Tensor:
        return units.unsqueeze(1).expand(gemm.shape).clone()
