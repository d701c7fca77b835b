"""Global threshold (S1): one cut through the scores of all layers together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import ALLOCATIONS, Allocation, Share

if TYPE_CHECKING:
    from torch import Tensor


@ALLOCATIONS.register
@dataclass(frozen=True)
class Global(Allocation):
    """The lowest scores of the whole model go, wherever they are; the total is what rules ask.

    Each layer keeps at least one unit.
    """

    kind: ClassVar[str] = "global"
    label: ClassVar[str] = "Global threshold"

    def allocate(self, shares: Mapping[str, Share]) -> dict[str, float]:
        import torch

        from ...kernels.select import lowest, lowest_by_size

        if not shares:
            return {}
        # The best unit of a layer is out of reach: a layer pruned to nothing breaks the model.
        rest = {path: _without_best(share) for path, share in shares.items()}
        budget = sum(share.asked * share.size for share in shares.values())
        scores = torch.cat([units for units, _ in rest.values()])
        sizes = torch.cat([size for _, size in rest.values()])
        if int(sizes.sum()) <= budget:
            pruned = torch.ones_like(scores, dtype=torch.bool)
        elif bool((sizes == sizes[0]).all()):
            pruned = lowest(scores, round(budget / int(sizes[0])))
        else:
            pruned = lowest_by_size(scores, sizes, budget)
        removed = (pruned * sizes).split([len(units) for units, _ in rest.values()])
        return {
            path: int(part.sum()) / shares[path].size
            for path, part in zip(rest, removed, strict=True)
        }


def _without_best(share: Share) -> tuple[Tensor, Tensor]:
    import torch

    units = share.units().reshape(-1)
    if share.sizes is None:
        sizes = torch.full((len(units),), share.size // len(units), device=units.device)
    else:
        sizes = share.sizes.reshape(-1).to(units.device)
    # Ties prune the lower index first, so the best of equals is the last one.
    best = len(units) - 1 - int(units.flip(0).argmax())
    keep = torch.arange(len(units), device=units.device) != best
    return units[keep], sizes[keep]
