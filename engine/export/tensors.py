"""Comparing a state dict with the one that was read back, value by value."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .base import Difference


def compare_states(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Difference:
    """Compare names, shapes, dtypes and every value.

    Values are equal where they have the same bits, a zero of either sign and any NaN being one.
    """
    missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or extra:
        name = min(missing or extra)
        word = "is missing" if missing else "should not be there"
        return Difference(float("inf"), False, f"{name} {word}")
    worst, text = 0.0, ""
    for name, tensor in expected.items():
        other = found[name]
        if other.shape != tensor.shape or other.dtype != tensor.dtype:
            seen = f"{tuple(other.shape)} {other.dtype}"
            return Difference(float("inf"), False, f"{name} is {seen}")
        if not _same(tensor, other):
            gap = (tensor.double() - other.double()).abs().nan_to_num(nan=float("inf"))
            if not text or float(gap.max()) > worst:
                worst = float(gap.max())
                text = f"{name} differs by up to {worst:.3g}"
    return Difference(worst, not text, text)


def _same(a: Tensor, b: Tensor) -> bool:
    if torch.equal(a, b):
        return True
    return a.is_floating_point() and bool(((a == b) | (a.isnan() & b.isnan())).all())
