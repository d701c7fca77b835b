"""Head pruning (S0): the columns of an output projection that read one attention head."""

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
class Head(Pattern):
    """One attention head goes: the inputs of the attention's output projection that read it.

    Heads that share keys and values go together. Where nothing forbids it the exported model
    computes fewer heads.
    """

    kind: ClassVar[str] = "head"
    label: ClassVar[str] = "head"
    rank: ClassVar[int] = 75
    unit: ClassVar[str] = "attention head"
    format: ClassVar[str] = "grouped"

    def misfit(self, layer: LayerInfo) -> str | None:
        gemm = layer.gemm
        assert gemm is not None
        if gemm.head == 0:
            return "reads no attention heads; column or filter would fit"
        if gemm.head >= gemm.shape[1]:
            return "reads its only attention head, which has to stay; column or filter would fit"
        return None

    def pool(self, scores: Tensor, gemm: Gemm) -> Tensor:
        return scores.view(gemm.shape[0], -1, gemm.head).mean(dim=(0, 2))

    def spread(self, units: Tensor, gemm: Gemm) -> Tensor:
        return units.repeat_interleave(gemm.head).expand(gemm.shape).clone()
