"""A target in operations: as many as needed go where they cost least."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..errors import BadInput
from ..settings import setting
from .base import ALLOCATIONS, Allocation, Share, floor_setting
from .global_ import cut


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

    def allocate(self, shares: Mapping[str, Share]) -> dict[str, float]:
        cost: dict[str, float] = {}
        for path, share in shares.items():
            if share.flops is None:
                raise BadInput(
                    f"the FLOPs of {path} are not known, so allocation flops cannot be used; "
                    "choose global"
                )
            cost[path] = share.flops / share.size
        if self.floor > self.target:
            raise BadInput(
                f"with a floor of {self.floor:g} the operations cannot fall to {self.target:g}; "
                "raise the target or lower the floor"
            )
        total = sum(share.flops or 0 for share in shares.values())
        return cut(shares, (1 - self.target) * total, cost, self.floor)
