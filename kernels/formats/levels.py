"""Nested masks over one matrix: for each kept entry, the strictest level that still keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from .bits import bits_for, pack_integers, unpack_bits

_ALONG = ("entry", "row", "column")


@dataclass(frozen=True, eq=False)
class LevelIndex:
    """Ranks of the kept entries of a tensor: at level k those of rank k and more are kept.

    `packed` is uint8: one rank of ``bits_for(levels)`` bits after the other, lowest bit first.
    `along` says of what: of each kept ``entry`` in the order of the tensor, or of each whole
    ``row`` or ``column`` where all kept entries of one have the same rank.
    """

    levels: int
    along: str
    packed: Tensor

    @classmethod
    def of(cls, ranks: Tensor, kept: Tensor, levels: int) -> Self:
        """Store integer `ranks` below `levels`, of any shape; only where `kept` do they count."""
        along, chosen = "entry", ranks[kept]
        if ranks.dim() == 2 and ranks.numel():
            for name, dim in (("row", 1), ("column", 0)):
                lines = ranks.masked_fill(~kept, 0).amax(dim)
                same = (ranks == lines.unsqueeze(dim)) | ~kept
                if len(lines) < len(chosen) and bool(same.all()):
                    along, chosen = name, lines
        return cls(levels, along, pack_integers(chosen, bits_for(levels)))

    def ranks(self, kept: Tensor) -> Tensor:
        """uint8 ranks in the shape of the bool `kept`; 0 where it is False.

        Raises ValueError where `packed` is not what this format writes for it.
        """
        if self.along == "entry":
            count = int(torch.count_nonzero(kept))
        else:
            count = kept.shape[0 if self.along == "row" else 1]
        flat = self._unpack(count)
        if count and int(flat.max()) >= self.levels:
            raise ValueError(f"a rank must be below {self.levels}")
        found = torch.zeros_like(kept, dtype=torch.uint8)
        if self.along == "entry":
            return found.masked_scatter_(kept, flat)
        lines = flat.unsqueeze(1 if self.along == "row" else 0).expand(kept.shape)
        return torch.where(kept, lines, found)

    def _unpack(self, count: int) -> Tensor:
        """As `unpack_integers`, in an eighth of its memory: ranks are small."""
        bits = bits_for(self.levels)
        flags = unpack_bits(self.packed, bits * count).view(count, bits)
        flat = torch.zeros(count, dtype=torch.uint8, device=flags.device)
        for place in range(bits):
            flat |= flags[:, place].to(torch.uint8) << place
        return flat

    @property
    def nbytes(self) -> int:
        """Bytes of the index."""
        return self.packed.nbytes

    def meta(self) -> dict[str, Any]:
        """The plain JSON values that `from_part` needs beside the tensor."""
        return {"levels": self.levels, "along": self.along}

    @classmethod
    def from_part(cls, packed: Tensor, meta: Mapping[str, Any]) -> Self:
        """Read what `packed` and `meta` gave; raises ValueError or KeyError for anything else."""
        levels, along = meta["levels"], meta["along"]
        if type(levels) is not int or not 1 <= levels <= 255 or along not in _ALONG:
            raise ValueError(f"not a level index: {levels!r} levels along {along!r}")
        return cls(levels, along, packed)
