"""Optimal brain surgeon, layer by layer: SparseGPT (S1 [19, 20]; Frantar & Alistarh 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..errors import BadInput
from ..settings import setting
from .base import CRITERIA, NOTHING, Criterion, Statistics, samples

if TYPE_CHECKING:
    from torch import Tensor

    from ..gemm import Gemm
    from ..info import LayerInfo
    from ..patterns import Pattern


@CRITERIA.register
@dataclass(frozen=True)
class Obs(Criterion):
    """Weights go whose loss the others can make up for best, and the others are changed to do so.

    Updates the kept weights: each layer's outputs on the calibration samples stay as near as
    possible to what they were. Layers follow each other, each seeing its inputs as the layers
    before it now give them. Scores are w² / [(X·Xᵀ)⁻¹]ⱼⱼ.

    Single weights, N:M and vectors are chosen column by column along the way; any other pattern is
    chosen first, and the kept weights are updated for it.
    """

    kind: ClassVar[str] = "obs"
    label: ClassVar[str] = "OBS (SparseGPT)"
    rank: ClassVar[int] = 80
    needs: ClassVar[frozenset[str]] = frozenset({"hessian"})
    updates_weights: ClassVar[bool] = True
    damp: float = setting(
        0.01,
        low=1e-6,
        high=10.0,
        help="Added to the diagonal of X·Xᵀ, as a share of its mean; more changes weights less.",
    )
    block: int | None = setting(
        None,
        low=1,
        high=65536,
        help="Columns among which single weights are chosen at a time; empty: a sixteenth of the "
        "layer's, at most 128.",
    )
    samples: int = samples()

    def misfit(self, layer: LayerInfo, pattern: Pattern | None = None) -> str | None:
        if pattern is not None and pattern.removes:
            return (
                f"loses whole outputs with {pattern.label}, which leaves {self.label} none of "
                "their weights to update; magnitude or taylor would fit"
            )
        return super().misfit(layer, pattern)

    def scores(self, weight: Tensor, statistics: Statistics = NOTHING) -> Tensor:
        from ...kernels.selection.obs import saliency

        return saliency(weight, self._inverse(statistics))

    def prune(
        self,
        weight: Tensor,
        pattern: Pattern,
        sparsity: float,
        gemm: Gemm,
        statistics: Statistics = NOTHING,
    ) -> tuple[Tensor, Tensor | None]:
        """See `Criterion.prune`."""
        from ...kernels.selection.obs import AT_ONCE, saliency, sweep

        inverted = self._inverse(statistics)
        width = self._width(pattern, gemm)
        if width is not None:
            return sweep(weight, inverted, width, _Choice(pattern, sparsity))
        mask = pattern.mask(saliency(weight, inverted), sparsity, gemm)

        def chosen(scores: Tensor, first: int) -> Tensor:
            return mask[:, first : first + scores.shape[1]]

        return sweep(weight, inverted, AT_ONCE, chosen)

    def _inverse(self, statistics: Statistics) -> Tensor:
        from ...kernels.selection.obs import inverse

        try:
            return inverse(statistics.required("hessian"), self.damp)
        except ArithmeticError as error:
            raise BadInput(f"{statistics.path}: {error}; raise the criterion's damp") from None

    def _width(self, pattern: Pattern, gemm: Gemm) -> int | None:
        """Columns that the pattern can be chosen on by themselves; None: only all at once."""
        from ...kernels.selection.obs import AT_ONCE

        if pattern.kind == "element":
            # Small layers need small stretches: with all columns chosen at once, the first ones
            # are judged as if all others could still make up for them.
            return self.block or min(AT_ONCE, max(1, gemm.shape[1] // 16))
        if pattern.kind == "vector":
            return int(pattern.length)  # type: ignore[attr-defined]
        in_order = pattern.kind == "nm" and (gemm.taps == 1 or pattern.order == "flattened")  # type: ignore[attr-defined]
        return int(pattern.m) if in_order else None  # type: ignore[attr-defined]


class _Choice:
    """Chooses stretch after stretch of columns, and carries what rounding left over."""

    def __init__(self, pattern: Pattern, sparsity: float) -> None:
        self._pattern, self._sparsity = pattern, sparsity
        self._seen = self._pruned = 0

    def __call__(self, scores: Tensor, first: int) -> Tensor:
        sparsity = self._sparsity
        if self._pattern.kind == "element":
            self._seen += scores.numel()
            count = round(sparsity * self._seen) - self._pruned
            self._pruned += count
            sparsity = count / scores.numel()
        return self._pattern.mask(scores, sparsity)
