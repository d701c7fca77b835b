"""A target in operations: as many as needed go where they cost least."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..criteria import Criterion
from ..errors import BadInput
from ..settings import setting
from .base import (
    ALLOCATIONS,
    EMPTY,
    Allocation,
    Share,
    cannot_reach,
    floor_setting,
    whole_misfit,
)
from .global_ import cut

if TYPE_CHECKING:
    from ..patterns import Pattern

_NEAR = 0.002


@ALLOCATIONS.register
@dataclass(frozen=True)
class Flops(Allocation):
    """Prunes until the layers of the plan need the target share of their operations.

    Units go in order of their score per operation, wherever they are; what the rules ask is not
    used. Operations count as saved with every zero; whether time is, the measurement says.
    """

    kind: ClassVar[str] = "flops"
    label: ClassVar[str] = "FLOPs target"
    rank: ClassVar[int] = 50
    target: float = setting(0.5, low=0.01, high=1.0, help="Share of the operations that stays.")
    floor: float = floor_setting()

    def misfit(self, criterion: Criterion, pattern: Pattern) -> str | None:
        return whole_misfit(pattern, self.kind)

    def allocate(
        self, shares: Mapping[str, Share], settled: Mapping[str, Share] = EMPTY
    ) -> dict[str, float]:
        dense = {path: _flops(path, share) for path, share in (*shares.items(), *settled.items())}
        fixed = sum((1 - share.asked) * dense[path] for path, share in settled.items())
        total = sum(dense.values())
        aim = self.target * total - fixed
        free = sum(dense[path] for path in shares)
        if aim >= free:
            return dict.fromkeys(shares, 0.0)
        cost = {path: dense[path] / share.size for path, share in shares.items()}

        def left(chosen: Mapping[str, float]) -> float:
            return sum((1 - chosen[path]) * dense[path] for path in shares)

        chosen = cut(shares, free - aim, cost, self.floor)
        if left(chosen) > aim + _NEAR * total:
            smallest = left(cut(shares, free, cost, self.floor))
            if smallest > aim + _NEAR * total:
                raise cannot_reach(
                    f"{self.target:.1%} of the operations", (smallest + fixed) / total, self.floor
                )
        return chosen


def _flops(path: str, share: Share) -> int:
    if share.flops is None:
        raise BadInput(
            f"the FLOPs of {path} are not known, so allocation flops cannot be used; choose global"
        )
    return share.flops
