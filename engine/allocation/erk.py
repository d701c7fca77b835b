"""Erdős–Rényi-Kernel allocation (Mocanu et al. 2018, Evci et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .base import ALLOCATIONS, EMPTY, Allocation, Share, check_floor, floor_setting

_HALVINGS = 100


@ALLOCATIONS.register
@dataclass(frozen=True)
class ERK(Allocation):
    """Small layers stay denser: density goes with (in + out + kernel) / (in · out · kernel).

    The total is what the rules ask. A layer that would need more than it has stays dense.
    """

    kind: ClassVar[str] = "erk"
    label: ClassVar[str] = "ERK"
    rank: ClassVar[int] = 30
    floor: float = floor_setting()

    def allocate(
        self, shares: Mapping[str, Share], settled: Mapping[str, Share] = EMPTY
    ) -> dict[str, float]:
        check_floor(shares, self.floor)
        wanted = sum((1 - share.asked) * share.size for share in shares.values())
        least = {path: 1 - share.most(self.floor) for path, share in shares.items()}

        def densities(scale: float) -> dict[str, float]:
            return {p: min(1.0, max(least[p], scale * _raw(s))) for p, s in shares.items()}

        # What is kept rises with the scale, so halving finds the one that keeps what is wanted.
        low, high = 0.0, max((1 / _raw(share) for share in shares.values()), default=1.0)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            kept = densities(middle)
            if sum(kept[path] * share.size for path, share in shares.items()) < wanted:
                low = middle
            else:
                high = middle
        return {path: 1 - density for path, density in densities(high).items()}


def _raw(share: Share) -> float:
    out, ins = share.gemm.shape
    sizes = share.gemm.kernel
    return (out + share.gemm.channels + sum(sizes)) / (out * ins)
