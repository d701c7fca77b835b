"""What the last change of a run did to its masks."""

from __future__ import annotations

from dataclasses import dataclass

from .bitmasks import BitMask, PackedMasks
from .masks import Masks


@dataclass(frozen=True, eq=False)
class Topology:
    """Masks after their change number `evolution`, set before optimizer step `step`.

    `before` are those that they replaced, without the layers that had none. Number 0 is the
    beginning.
    """

    masks: Masks
    before: PackedMasks
    step: int = 0
    evolution: int = 0

    def of(self, path: str) -> tuple[BitMask, BitMask] | None:
        """The layer's mask and the one before, equal where nothing changed; None: it has none."""
        mask = self.masks.layers.packed.get(path)
        if mask is None:
            return None
        before = self.before.packed.get(path)
        return mask, mask if before is None else before.to(mask.bits.device)
