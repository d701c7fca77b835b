"""Group-wise pruning (S1): one input position for all outputs, a whole column of W."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..gemm import Gemm
from .base import PATTERNS, Pattern

if TYPE_CHECKING:
    from torch import Tensor


@PATTERNS.register
@dataclass(frozen=True)
class Group(Pattern):
    """One input position (channel and kernel place) goes for all outputs: a column of the matrix.

    The product stays dense and gets shorter, which is what makes it fast on ordinary hardware.
    """

    kind: ClassVar[str] = "group"
    label: ClassVar[str] = "group"
    rank: ClassVar[int] = 40
    unit: ClassVar[str] = "input position"
    format: ClassVar[str] = "grouped"

    def pool(self, scores: Tensor, gemm: Gemm) -> Tensor:
        return scores.mean(dim=0)

    def spread(self, units: Tensor, gemm: Gemm) -> Tensor:
        return units.expand(gemm.shape).clone()
