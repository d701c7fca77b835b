"""A target in bytes: as much as needed goes for the compressed file to reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..criteria import Criterion
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

_TRIES = 24
_NEAR = 0.002
_RUNS = (4, 8, 16, 32)  # of N:M, as compressed files know them


@ALLOCATIONS.register
@dataclass(frozen=True)
class Bytes(Allocation):
    """Prunes until the layers of the plan take the target share of their bytes, compressed.

    One cut through the scores of all layers, as for the global threshold; what the rules ask is
    not used. Indices count: how many there are follows from the pattern.
    """

    kind: ClassVar[str] = "bytes"
    label: ClassVar[str] = "File size target"
    rank: ClassVar[int] = 60
    target: float = setting(
        0.2, low=0.001, high=1.0, help="Share of the layers' dense bytes that the file may take."
    )
    floor: float = floor_setting()

    def misfit(self, criterion: Criterion, pattern: Pattern) -> str | None:
        return whole_misfit(pattern, self.kind)

    def allocate(
        self, shares: Mapping[str, Share], settled: Mapping[str, Share] = EMPTY
    ) -> dict[str, float]:
        free = sum(share.size * share.itemsize for share in shares.values())
        dense = free + sum(share.size * share.itemsize for share in settled.values())
        fixed = sum(packed_bytes(share, share.asked) for share in settled.values())
        aim = self.target * dense - fixed
        if aim >= free:
            return dict.fromkeys(shares, 0.0)
        size = sum(share.size for share in shares.values())
        most = cut(shares, size, floor=self.floor)
        smallest = _total(shares, most)
        if smallest > aim + _NEAR * self.target * dense:
            raise cannot_reach(
                f"a file of {self.target:.1%} of the layers' bytes",
                (smallest + fixed) / dense,
                self.floor,
            )
        # Bytes fall almost in a straight line with what goes: its ends say where to look next.
        low, low_bytes = 0.0, float(free)
        high, high_bytes = sum(most[p] * s.size for p, s in shares.items()), float(smallest)
        chosen = most
        for attempt in range(_TRIES):
            if high - low < 1:
                break
            along = (low_bytes - aim) / max(low_bytes - high_bytes, 1)
            # A kink in the line could hold one end for ever: every third look is in the middle.
            budget = low + (high - low) * (along if attempt % 3 < 2 else 0.5)
            found = cut(shares, budget, floor=self.floor)
            reached = _total(shares, found)
            if reached > aim:
                low, low_bytes = budget, float(reached)
            else:
                high, high_bytes, chosen = budget, float(reached), found
            if abs(reached - aim) <= _NEAR * aim:
                return found
        return chosen


def _total(shares: Mapping[str, Share], chosen: Mapping[str, float]) -> int:
    return sum(packed_bytes(share, chosen[path]) for path, share in shares.items())


def packed_bytes(share: Share, sparsity: float) -> int:
    """Bytes of the layer in a compressed file, in the smallest format that its pattern packs into.

    Values that are zero though they are kept would make it smaller still; they are not known here.
    """
    out, ins = share.gemm.shape
    kept = round((1 - sparsity) * share.size)
    values = kept * share.itemsize
    if share.format == "grouped":
        lines, across = (out, ins) if share.rows else (ins, out)
        left = round(kept / across)
        index = 0 if left == lines else left * _width(lines - 1)
        return min(share.size * share.itemsize, left * across * share.itemsize + index)
    bitmap = values + -(-share.size // 8)
    if share.run in _RUNS:
        bitmap = min(bitmap, values + -(-kept * (share.run.bit_length() - 1) // 8))
    csr = values + kept * _width(ins - 1) + (out + 1) * _width(kept)
    csc = values + kept * _width(out - 1) + (ins + 1) * _width(kept)
    return min(share.size * share.itemsize, bitmap, csr, csc)


def _width(limit: int) -> int:
    """Bytes of an index up to `limit`, as `kernels.formats.bits.narrow` stores it."""
    return next((size for size, bits in ((1, 8), (2, 16), (4, 31)) if limit < 2**bits), 8)
