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
    rank: ClassVar[int] = 20

    def allocate(self, shares: Mapping[str, Share]) -> dict[str, float]:
        return cut(shares, sum(share.asked * share.size for share in shares.values()))


def cut(
    shares: Mapping[str, Share], budget: float, cost: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Prune the lowest-scored units of all layers until `budget` is spent; sparsity by path.

    `cost` is what one entry of a layer counts, 1 where it is not given; units are then ranked by
    score per cost. The best unit of a layer is out of reach: a layer pruned to nothing breaks the
    model.
    """
    import torch

    from ...kernels.select import lowest, lowest_by_size

    if not shares:
        return {}
    rest = {path: _without_best(share) for path, share in shares.items()}
    lengths = [len(units) for units, _ in rest.values()]
    sizes = torch.cat([size for _, size in rest.values()])
    if cost is None:
        scores, costs = torch.cat([units for units, _ in rest.values()]), sizes
    else:
        scores = torch.cat([units / max(cost[path], 1e-30) for path, (units, _) in rest.items()])
        costs = torch.cat([size * cost[path] for path, (_, size) in rest.items()])
    if not len(costs) or float(costs.sum()) <= budget:
        pruned = torch.ones_like(scores, dtype=torch.bool)
    elif cost is None and bool((sizes == sizes[0]).all()):
        pruned = lowest(scores, round(budget / int(sizes[0])))
    else:
        pruned = lowest_by_size(scores, costs, budget)
    removed = (pruned * sizes).split(lengths)
    return {
        path: int(part.sum()) / shares[path].size for path, part in zip(rest, removed, strict=True)
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
