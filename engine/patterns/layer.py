"""Layer pruning (S0): the matrix that ends a residual branch, and with it all that it adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..gemm import Gemm
from .base import PATTERNS, Pattern

if TYPE_CHECKING:
    from torch import Tensor

    from ..info import LayerInfo


@PATTERNS.register
@dataclass(frozen=True)
class Layer(Pattern):
    """A layer that ends a residual branch goes as a whole, so that the branch adds nothing.

    Its bias and the norm behind it go along. Among the layers with this pattern those with the
    lowest mean score go, until the share of their weights that the rules ask for is reached.
    """

    kind: ClassVar[str] = "layer"
    label: ClassVar[str] = "layer"
    rank: ClassVar[int] = 80
    unit: ClassVar[str] = "layer"
    format: ClassVar[str] = "grouped"
    removes: ClassVar[bool] = True
    whole: ClassVar[bool] = True

    def misfit(self, layer: LayerInfo) -> str | None:
        if layer.branch:
            return None
        return (
            "ends no residual branch, so the model would be cut in two without it; filter would fit"
        )

    def pool(self, scores: Tensor, gemm: Gemm) -> Tensor:
        return scores.mean().view(1)

    def spread(self, units: Tensor, gemm: Gemm) -> Tensor:
        return units.expand(gemm.shape).clone()
