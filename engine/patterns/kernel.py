"""Kernel patterns with connectivity pruning (S4, PCONV)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..gemm import Gemm
from ..settings import setting
from .base import PATTERNS, Pattern

if TYPE_CHECKING:
    from torch import Tensor


@PATTERNS.register
@dataclass(frozen=True)
class Kernel(Pattern):
    """Every kernel keeps the entries of one pattern, its best, out of a small library.

    The library is learned from the layer: the patterns that most kernels would choose for
    themselves. Beyond what patterns give, whole kernels go (connectivity); short of it, the kernels
    that would lose most stay whole.
    """

    kind: ClassVar[str] = "kernel"
    short: ClassVar[str] = "kernel:{entries}"
    label: ClassVar[str] = "kernel"
    rank: ClassVar[int] = 70
    unit: ClassVar[str] = "weight"
    pictured_on_kernels: ClassVar[bool] = True
    format: ClassVar[str] = "bitmap"
    entries: int = setting(4, low=1, high=48, help="Entries that a kernel keeps.")
    library: int = setting(8, low=1, high=128, help="Patterns in the library.")

    def misfit(self, gemm: Gemm) -> str | None:
        if gemm.taps <= self.entries:
            size = "×".join(map(str, gemm.kernel)) or "1×1"
            return f"has kernels of {size}, no more than the {self.entries} entries to keep"
        return None

    def mask(self, scores: Tensor, sparsity: float, gemm: Gemm | None = None) -> Tensor:
        """See `Pattern.mask`; `gemm` says which entries form a kernel, and is needed."""
        from ...kernels.kernel_patterns import choose, learn
        from ...kernels.select import lowest

        if gemm is None:
            raise ValueError("kernel patterns need the layer's kernel size")
        kernels = scores.float().reshape(-1, gemm.taps)
        kept = choose(kernels, learn(kernels, self.entries, self.library))
        count = len(kernels)
        pruned = round(sparsity * scores.numel())
        by_pattern = gemm.taps - self.entries
        if pruned <= count * by_pattern:
            lost = kernels.masked_fill(kept, 0).sum(dim=1)
            whole = ~lowest(lost, round(pruned / by_pattern))
            kept |= whole.unsqueeze(1)
        else:
            left = kernels.masked_fill(~kept, 0).sum(dim=1)
            gone = lowest(left, round((pruned - count * by_pattern) / self.entries))
            kept &= ~gone.unsqueeze(1)
        return kept.view(scores.shape)
