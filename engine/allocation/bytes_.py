"""A target in bytes: as much as needed goes for the compressed file to reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..errors import BadInput
from ..settings import setting
from .base import ALLOCATIONS, Allocation, Share, floor_setting
from .global_ import cut

_TRIES = 24
_NEAR = 0.002


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

    def allocate(self, shares: Mapping[str, Share]) -> dict[str, float]:
        dense = sum(share.size * share.itemsize for share in shares.values())
        if not shares or self.target == 1:
            return dict.fromkeys(shares, 0.0)
        most = cut(shares, sum(share.size for share in shares.values()), floor=self.floor)
        smallest, aim = _total(shares, most), self.target * dense
        if smallest > aim * (1 + _NEAR):
            raise BadInput(
                f"a file of {self.target:.1%} of the layers' bytes cannot be reached with these "
                f"patterns{f' and a floor of {self.floor:g}' if self.floor else ''}; the smallest "
                f"is {smallest / dense:.1%}"
            )
        # Bytes fall almost in a straight line with what goes: its ends say where to look next.
        low, low_bytes = 0.0, float(dense)
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
    csr = values + kept * _width(ins - 1) + (out + 1) * _width(kept)
    csc = values + kept * _width(out - 1) + (ins + 1) * _width(kept)
    return min(share.size * share.itemsize, bitmap, csr, csc)


def _width(limit: int) -> int:
    """Bytes of an index up to `limit`, as `kernels.formats.bits.narrow` stores it."""
    return next((size for size, bits in ((1, 8), (2, 16), (4, 31)) if limit < 2**bits), 8)
