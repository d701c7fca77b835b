"""Uniform allocation (the identical-layer rule of S4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .base import ALLOCATIONS, EMPTY, Allocation, Share


@ALLOCATIONS.register
@dataclass(frozen=True)
class Uniform(Allocation):
    """Every layer gets exactly the sparsity that its rule asks for."""

    kind: ClassVar[str] = "uniform"
    label: ClassVar[str] = "Uniform"
    rank: ClassVar[int] = 10

    def allocate(
        self, shares: Mapping[str, Share], settled: Mapping[str, Share] = EMPTY
    ) -> dict[str, float]:
        return {path: share.asked for path, share in shares.items()}
