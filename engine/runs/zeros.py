"""Zeros that a model brings along, taken over as its masks."""

from __future__ import annotations

from collections.abc import Container, Mapping

from ..bitmasks import BitMask, PackedMasks
from ..errors import BadInput
from ..models.model import Model
from ..plan import Rule


def zeros_of(model: Model) -> PackedMasks:
    """[out, in] masks, False where a weight is zero, of the prunable layers that have any."""
    masks = {layer.path: BitMask.of(model.matrix(layer.path) != 0) for layer in model.info.prunable}
    return PackedMasks({path: mask for path, mask in masks.items() if mask.kept < mask.numel})


def check_kept_zero(taken: Container[str], rules: Mapping[str, Rule]) -> None:
    """Raise BadInput where a criterion would give zeros that are taken over new values."""
    for path, rule in rules.items():
        if path in taken and rule.criterion.updates_weights:
            raise BadInput(
                f"{path} has zeros to take over, and {rule.criterion.label} would give them new "
                "values; choose magnitude or taylor for it, or take_zeros: false"
            )


def words(taken: PackedMasks) -> str:
    """How many zeros were taken over, as a sentence without its full stop."""
    masks = taken.packed.values()
    weights = sum(mask.numel for mask in masks)
    zeros = weights - sum(mask.kept for mask in masks)
    layers = "1 layer" if len(taken) == 1 else f"{len(taken)} layers"
    if not taken:
        return "no zeros to take over"
    return f"{zeros:,} zeros taken over in {layers}, {zeros / weights:.1%} of their weights"
