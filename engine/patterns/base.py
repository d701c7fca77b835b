"""What every pruning pattern is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..gemm import Gemm
from ..settings import Family, Setting

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Pattern(Setting):
    """A layout of zeros on W[out, in].

    A pattern cuts W into units that are kept or pruned whole. Scores are additive: a unit is
    ranked by the mean score of its entries, so that a ragged block at the edge is not favoured.

    `unit` names one unit for the person ("2 of 4 rows kept"); `format` is the sparse format that
    the pattern packs into; `removes` says that whole outputs go, so that a compacted layer is
    smaller; `pictured_on_kernels` that its example is a convolution's.
    """

    unit: ClassVar[str] = "weight"
    format: ClassVar[str] = "bitmap"
    removes: ClassVar[bool] = False
    pictured_on_kernels: ClassVar[bool] = False

    @property
    def fixed_sparsity(self) -> float | None:
        """The sparsity that the pattern itself dictates (N:M), or None if a rule chooses it."""
        return None

    def misfit(self, gemm: Gemm) -> str | None:
        """Why the pattern cannot lie on this layer, in words after its path; None if it can."""
        return None

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

    def mask(self, scores: Tensor, sparsity: float, gemm: Gemm | None = None) -> Tensor:
        """Return the bool [out, in] mask, True where kept, that prunes the lowest-scored units.

        `scores` is [out, in] of any floating dtype, `sparsity` the share of entries to prune in
        [0, 1). `gemm` is needed where the pattern looks at kernels; without it W is a plain matrix.
        Ties fall to the lower index, so that equal scores give equal masks every time.
        """
        from ...kernels.select import lowest, lowest_by_size

        gemm = gemm or Gemm(tuple(scores.shape))
        units = self.pool(scores.float(), gemm)
        sizes = self.sizes(gemm)
        if sizes is None:
            pruned = lowest(units, round(sparsity * units.numel()))
        else:
            pruned = lowest_by_size(units, sizes, sparsity * scores.numel())
        return self.spread(~pruned, gemm)


PATTERNS: Family[Pattern] = Family("pattern", __package__)
