"""Vector pruning (S1): every run of V inputs in a row of W loses the same number of entries."""

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
    length: int = setting(8, low=2, high=1024, help="Inputs in one run.")

    def misfit(self, gemm: Gemm) -> str | None:
        ins = gemm.shape[1]
        if self.length > ins:
            fits = f"; vector:{ins} would fit" if ins >= 2 else ""
            return f"has rows of {ins}, shorter than one run of {self.length}{fits}"
        return None

    def mask(self, scores: Tensor, sparsity: float, gemm: Gemm | None = None) -> Tensor:
        """See `Pattern.mask`; of a run of V, ``round(sparsity * V)`` entries go."""
        import torch

        from ...kernels.select import keep_n_of_m

        whole = scores.shape[1] // self.length * self.length
        parts = [(scores[:, :whole], self.length), (scores[:, whole:], scores.shape[1] - whole)]
        # A shorter last run loses its own share, not that of a whole one.
        masks = [keep_n_of_m(part, run - round(sparsity * run), run) for part, run in parts if run]
        return torch.cat(masks, dim=1)
