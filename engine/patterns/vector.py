"""Vector pruning (S1): every run of V inputs in a row of W loses the same number of entries."""

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
class Vector(Pattern):
    """Each run of V neighbouring inputs in a row loses the same number of weights.

    Every row keeps equally many weights, spread evenly, so that work is balanced.
    """

    kind: ClassVar[str] = "vector"
    short: ClassVar[str] = "vector:{length}"
    label: ClassVar[str] = "vector"
    rank: ClassVar[int] = 15
    unit: ClassVar[str] = "weight"
    format: ClassVar[str] = "bitmap"
    runs: ClassVar[bool] = True
    length: int = setting(8, low=2, high=1024, help="Inputs in one run.")

    def misfit(self, layer: LayerInfo) -> str | None:
        gemm = layer.gemm
        assert gemm is not None
        ins = gemm.shape[1]
        if self.length > ins:
            fits = f"vector:{ins}" if ins >= 2 else "element"
            return f"has rows of {ins}, shorter than one run of {self.length}; {fits} would fit"
        return None

    def mask(self, scores: Tensor, sparsity: float, gemm: Gemm | None = None) -> Tensor:
        """See `Pattern.mask`; of a run of V, ``round(sparsity * V)`` entries go, never all."""
        import torch

        from ...kernels.selection.select import keep_n_of_m

        whole = scores.shape[1] // self.length * self.length
        last = scores.shape[1] - whole
        kept = max(1, self.length - round(sparsity * self.length))
        masks = [keep_n_of_m(scores[:, :whole], kept, self.length)]
        if last:
            # A shorter last run loses its own share, not that of a whole one.
            masks.append(keep_n_of_m(scores[:, whole:], last - round(sparsity * last), last))
        return torch.cat(masks, dim=1)

    def mask_within(
        self, scores: Tensor, sparsity: float, looser: Tensor, gemm: Gemm | None = None
    ) -> Tensor:
        """See `Pattern.mask_within`."""
        return self.mask(scores.float().masked_fill(~looser, -inf), sparsity, gemm)
