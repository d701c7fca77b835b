"""Global threshold (S1): one cut through the scores of all layers together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import ALLOCATIONS, EMPTY, Allocation, Scores, Share, check_floor, floor_setting

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
    floor: float = floor_setting()

    def allocate(
        self, shares: Mapping[str, Share], settled: Mapping[str, Share] = EMPTY
    ) -> dict[str, float]:
        check_floor(shares, self.floor)
        budget = sum(share.asked * share.size for share in shares.values())
        return cut(shares, budget, floor=self.floor)


def cut(
    shares: Mapping[str, Share],
    budget: float,
    cost: Mapping[str, float] | None = None,
    floor: float = 0.0,
) -> dict[str, float]:
    """Prune the lowest-scored units of all layers until `budget` is spent; sparsity by path.

    `cost` is what one entry of a layer counts, 1 where it is not given; units are then ranked by
    score per cost. The best units of a layer, `floor` of them and at least one, are out of reach: a
    layer pruned to nothing breaks the model.
    """
    if not shares:
        return {}
    costs = {path: max(cost[path], 1e-30) if cost else 1.0 for path in shares}
    if all(share.sizes is None for share in shares.values()):
        return _cut_equal(shares, budget, costs, floor)
    return _cut_unequal(shares, budget, costs, floor)


def _cut_equal(
    shares: Mapping[str, Share], budget: float, costs: Mapping[str, float], floor: float
) -> dict[str, float]:
    """`cut` where all units of a layer are of one size: by one threshold, without a sort."""
    from ...kernels.selection.threshold import Part, lowest_counts

    parts = []
    for path, share in shares.items():
        scores, count = share.entries, share.size
        if scores is None:
            units = share.units().reshape(-1)
            scores, count = units.__getitem__, len(units)
        limit = min(count - 1, int((1 - floor) * count + 1e-6))
        weight = share.size // count * costs[path]
        parts.append(Part(count, _per(scores, costs[path]), limit, weight))
    if len({part.weight for part in parts}) == 1:
        budget = round(budget / parts[0].weight) * parts[0].weight
    gone = lowest_counts(parts, budget)
    return {path: n / part.count for path, part, n in zip(shares, parts, gone, strict=True)}


def _per(scores: Scores, cost: float) -> Scores:
    return scores if cost == 1 else lambda at: scores(at) / cost


def _cut_unequal(
    shares: Mapping[str, Share], budget: float, costs: Mapping[str, float], floor: float
) -> dict[str, float]:
    """`cut` where units of a layer differ in size, as blocks at a ragged edge do."""
    import torch

    from ...kernels.selection.select import lowest_by_size

    reach = {path: _reach(share, floor) for path, share in shares.items()}
    scores = torch.cat([units / costs[path] for path, (units, _) in reach.items()])
    spent = torch.cat([sizes * costs[path] for path, (_, sizes) in reach.items()])
    pruned = lowest_by_size(scores, spent, budget)
    parts = pruned.split([len(units) for units, _ in reach.values()])
    return {
        path: int(sizes[part].sum()) / shares[path].size
        for (path, (_, sizes)), part in zip(reach.items(), parts, strict=True)
    }


def _reach(share: Share, floor: float) -> tuple[Tensor, Tensor]:
    """Scores and sizes of the units that may go: all but the best."""
    import torch

    units = share.units().reshape(-1)
    if share.sizes is None:
        sizes = torch.full((len(units),), share.size // len(units), device=units.device)
    else:
        sizes = share.sizes.reshape(-1).to(units.device)
    order = torch.argsort(units, stable=True)
    most = min((1 - floor) * share.size + 1e-6, share.size - 1)
    gone = order[sizes[order].cumsum(0) <= most].sort().values
    return units[gone], sizes[gone]
