"""What every allocation is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..settings import Family, Setting

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Share:
    """One layer as an allocation sees it.

    `asked` is the sparsity of the layer's rule, `size` the entries of W, `units()` computes the
    float32 mean scores of the pattern's units, `sizes` are their int64 sizes (None: all equal).
    """

    asked: float
    size: int
    units: Callable[[], Tensor]
    sizes: Tensor | None


@dataclass(frozen=True)
class Allocation(Setting):
    """Turns what the rules ask for into one sparsity per layer; the total stays what was asked."""

    def allocate(self, shares: Mapping[str, Share]) -> dict[str, float]:
        """Return sparsity in [0, 1) by layer path, for the same keys."""
        raise NotImplementedError


ALLOCATIONS: Family[Allocation] = Family("allocation", __package__)
