"""What every pruning pattern is."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar

from ..gemm import Gemm
from ..settings import Family, Setting

if TYPE_CHECKING:
    from torch import Tensor

    from ..info import LayerInfo


@dataclass(frozen=True)
class Pattern(Setting):
    """A layout of zeros on W[out, in].

    A pattern cuts W into units that are kept or pruned whole. Scores are additive: a unit is
    ranked by the mean score of its entries, so that a ragged block at the edge is not favoured.

    `unit` names one unit for the person ("2 of 4 rows kept"); `format` is the sparse format that
    the pattern packs into; `removes` says that whole outputs go, so that a compacted layer is
    smaller; `whole` that its one unit is the layer, so that which go is decided among layers;
    `runs` that it lies on neighbouring inputs, so that their order matters;
    `pictured_on_kernels` that its example is a convolution's.
    """

    unit: ClassVar[str] = "weight"
    format: ClassVar[str] = "bitmap"
    removes: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    runs: ClassVar[bool] = False
    pictured_on_kernels: ClassVar[bool] = False

    @property
    def fixed_sparsity(self) -> float | None:
        """The sparsity that the pattern itself dictates (N:M), or None if a rule chooses it."""
        return None

    @property
    def free(self) -> bool:
        """Whether any set of kept units is a mask of this pattern."""
        return type(self).mask is Pattern.mask and not self.whole

    def misfit(self, layer: LayerInfo) -> str | None:
        """Why the pattern cannot lie on this prunable layer and what would fit it instead.

        In words after the layer's path; None if it can.
        """
        return None

    def whole_outputs(self, gemm: Gemm) -> bool:
        """Whether a unit is made of whole outputs, so that it is outputs that are compared."""
        return self.removes

    def pool(self, scores: Tensor, gemm: Gemm) -> Tensor:
        """Mean score of each unit, float32, any shape. `scores` is float32 [out, in].

        Unless a pattern says otherwise its unit is a single weight.
        """
        return scores

    def sizes(self, gemm: Gemm) -> Tensor | None:
        """Entries in each unit, int64 in the shape of `pool`; None where all are equal."""
        return None

    def spread(self, units: Tensor, gemm: Gemm) -> Tensor:
        """Inverse of `pool` for booleans: unit flags back as a bool [out, in] mask."""
        return units

    def going(self, sparsity: float, units: int) -> int:
        """How many of a layer's equal units go: the nearest, and never the last one."""
        return min(round(sparsity * units), units if self.whole else units - 1)

    def going_entries(self, sparsity: float, sizes: Tensor) -> float:
        """How many entries go in units of unequal `sizes`: so many that never all units do."""
        total = int(sizes.sum())
        # From here on it would be nearer to prune them all than all but the last.
        return min(sparsity * total, total - int(sizes.max()) / 2)

    def mask(self, scores: Tensor, sparsity: float, gemm: Gemm | None = None) -> Tensor:
        """Return the bool [out, in] mask, True where kept, that prunes the lowest-scored units.

        `scores` is [out, in] of any floating dtype, `sparsity` the share of entries to prune in
        [0, 1). `gemm` is needed where the pattern looks at kernels; without it W is a plain matrix.
        The best unit stays whatever `sparsity` is, so that rounding empties no layer. Ties fall to
        the lower index, so that equal scores give equal masks every time.
        """
        gemm = gemm or Gemm(tuple(scores.shape))
        return self._choose(self.pool(scores.float(), gemm), sparsity, gemm)

    def mask_within(
        self, scores: Tensor, sparsity: float, looser: Tensor, gemm: Gemm | None = None
    ) -> Tensor:
        """Like `mask`, but nothing is kept that the mask `looser` of this pattern does not keep.

        `looser` is bool [out, in], of a sparsity no higher than `sparsity`, and may have been
        chosen by other scores. There is none for a pattern with a `fixed_sparsity`.
        """
        gemm = gemm or Gemm(tuple(scores.shape))
        gone = self.pool(looser.float(), gemm) == 0
        units = self.pool(scores.float(), gemm).masked_fill(gone, -inf)
        # Of units of unequal size more may have gone than would be nearest now.
        return self._choose(units, sparsity, gemm) & looser

    def _choose(self, units: Tensor, sparsity: float, gemm: Gemm) -> Tensor:
        """The mask that prunes the lowest of `units`, as `pool` gives them."""
        from ...kernels.selection.select import lowest, lowest_by_size

        sizes = self.sizes(gemm)
        if sizes is None:
            pruned = lowest(units, self.going(sparsity, units.numel()))
        else:
            pruned = lowest_by_size(units, sizes, self.going_entries(sparsity, sizes))
        return self.spread(~pruned, gemm)


PATTERNS: Family[Pattern] = Family("pattern", __package__)
