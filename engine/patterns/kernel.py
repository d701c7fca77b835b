"""Kernel patterns with connectivity pruning (S4, PCONV)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar

from ..gemm import Gemm
from ..settings import setting
from .base import PATTERNS, Pattern

if TYPE_CHECKING:
    from torch import Tensor

    from ..info import LayerInfo


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

    def misfit(self, layer: LayerInfo) -> str | None:
        gemm = layer.gemm
        assert gemm is not None
        if not gemm.kernel:
            return "is no convolution and has no kernels; element or filter would fit"
        if gemm.taps <= self.entries:
            size = "×".join(map(str, gemm.kernel))
            fits = f"kernel:{gemm.taps - 1}, element" if gemm.taps > 1 else "element"
            return (
                f"has kernels of {size}, no more than the {self.entries} entries to keep; "
                f"{fits} or filter would fit"
            )
        return None

    def mask(self, scores: Tensor, sparsity: float, gemm: Gemm | None = None) -> Tensor:
        """See `Pattern.mask`; `gemm` says which entries form a kernel, and is needed."""
        from ...kernels.selection.kernel_patterns import choose, learn

        kernels = _kernels(scores, gemm)
        kept = choose(kernels, learn(kernels, self.entries, self.library))
        return self._connect(kernels, kept, sparsity).view(scores.shape)

    def mask_within(
        self, scores: Tensor, sparsity: float, looser: Tensor, gemm: Gemm | None = None
    ) -> Tensor:
        """See `Pattern.mask_within`: kernels that have a pattern keep it."""
        import torch

        from ...kernels.selection.kernel_patterns import choose, learn

        kernels = _kernels(scores, gemm)
        before = looser.reshape(kernels.shape)
        counts = before.sum(dim=1)
        having = counts == self.entries
        library = before[having].unique(dim=0)
        if not len(library):
            library = learn(kernels, self.entries, self.library)
        whole = (counts > self.entries).unsqueeze(1)
        kept = torch.where(whole, choose(kernels, library), before)
        return self._connect(kernels, kept, sparsity, whole.squeeze(1)).view(scores.shape)

    def _connect(
        self, kernels: Tensor, kept: Tensor, sparsity: float, whole: Tensor | None = None
    ) -> Tensor:
        """The mask [kernels, taps] from each one's pattern `kept`; a kernel without one is gone.

        Kernels may stay whole only where `whole` [kernels] says so; None: all may.
        """
        from ...kernels.selection.select import lowest

        count, taps = kernels.shape
        pruned = sparsity * kernels.numel()
        by_pattern = taps - self.entries
        if pruned <= count * by_pattern:
            lost = kernels.masked_fill(kept, 0).sum(dim=1)
            if whole is not None:
                lost = lost.masked_fill(~whole, -inf)
            return kept | ~lowest(lost, round(pruned / by_pattern)).unsqueeze(1)
        left = kernels.masked_fill(~kept, 0).sum(dim=1).masked_fill(~kept.any(dim=1), -inf)
        beyond = round((pruned - count * by_pattern) / self.entries)
        return kept & ~lowest(left, min(beyond, count - 1)).unsqueeze(1)


def _kernels(scores: Tensor, gemm: Gemm | None) -> Tensor:
    """Scores [kernels, taps]."""
    if gemm is None:
        raise ValueError("kernel patterns need the layer's kernel size")
    return scores.float().reshape(-1, gemm.taps)
