"""What every allocation is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..gemm import Gemm
from ..settings import Family, Setting

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Share:
    """One layer as an allocation sees it.

    `asked` is the sparsity of the layer's rule, `gemm` how its W is seen, `units()` computes the
    float32 mean scores of the pattern's units, `sizes` are their int64 sizes (None: all equal),
    `flops` the layer's operations on one sample, None where they are not known.
    """

    asked: float
    gemm: Gemm
    units: Callable[[], Tensor]
    sizes: Tensor | None = None
    flops: int | None = None

    @property
    def size(self) -> int:
        """Entries of W."""
        return self.gemm.stored_numel


@dataclass(frozen=True)
class Allocation(Setting):
    """Turns what the rules ask for into one sparsity per layer; the total stays what was asked."""

    def allocate(self, shares: Mapping[str, Share]) -> dict[str, float]:
        """Return sparsity in [0, 1) by layer path, for the same keys."""
        raise NotImplementedError


ALLOCATIONS: Family[Allocation] = Family("allocation", __package__)
