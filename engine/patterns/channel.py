"""Channel pruning (S0): one input channel at every kernel position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..gemm import Gemm
from .base import PATTERNS, Pattern

if TYPE_CHECKING:
    from torch import Tensor


@PATTERNS.register
@dataclass(frozen=True)
class Channel(Pattern):
    """One input channel goes at every kernel position, for all outputs.

    The layer no longer reads the channel; a convolution over fewer channels computes the same.
    """

    kind: ClassVar[str] = "channel"
    label: ClassVar[str] = "channel"
    rank: ClassVar[int] = 50
    unit: ClassVar[str] = "input channel"
    pictured_on_kernels: ClassVar[bool] = True
    format: ClassVar[str] = "grouped"

    def pool(self, scores: Tensor, gemm: Gemm) -> Tensor:
        return scores.view(gemm.shape[0], gemm.channels, gemm.taps).mean(dim=(0, 2))

    def spread(self, units: Tensor, gemm: Gemm) -> Tensor:
        return units.repeat_interleave(gemm.taps).expand(gemm.shape).clone()
