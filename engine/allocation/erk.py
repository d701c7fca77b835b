"""Erdős–Rényi-Kernel allocation (Mocanu et al. 2018, Evci et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .base import ALLOCATIONS, Allocation, Share


@ALLOCATIONS.register
@dataclass(frozen=True)
class ERK(Allocation):
    """Small layers stay denser: density goes with (in + out + kernel) / (in · out · kernel).

    The total is what the rules ask. A layer that would need more than it has stays dense.
    """

    kind: ClassVar[str] = "erk"
    label: ClassVar[str] = "ERK"
    rank: ClassVar[int] = 30

    def allocate(self, shares: Mapping[str, Share]) -> dict[str, float]:
        left = sum((1 - share.asked) * share.size for share in shares.values())
        raw = {path: _raw(share) for path, share in shares.items()}
        dense: set[str] = set()
        while True:
            free = [path for path in shares if path not in dense]
            room = left - sum(shares[path].size for path in dense)
            total = sum(raw[path] * shares[path].size for path in free)
            scale = room / total if total else 0.0
            full = {path for path in free if scale * raw[path] >= 1}
            if not full:
                break
            dense |= full
        return {p: 0.0 if p in dense else 1 - scale * raw[p] for p in shares}


def _raw(share: Share) -> float:
    out, ins = share.gemm.shape
    sizes = share.gemm.kernel
    return (out + share.gemm.channels + sum(sizes)) / (out * ins)
