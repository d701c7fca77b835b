"""Masks of single weights without a copy of their scores: a stretch of the layer at a time."""

from __future__ import annotations

from torch import Tensor

from ...kernels.selection.threshold import Part, all_but_lowest
from ..allocation.base import Scores
from ..bitmasks import BitMask
from ..patterns import Pattern
from ..plan import Rule


def entry_scores(rule: Rule, matrix: Tensor) -> Scores | None:
    """Scores of a few entries of W[out, in] at a time; None where they are not to be had so.

    They are where the pattern's unit is any single weight, each is scored by itself, and W is on
    the CPU. On a GPU whole layers are faster.
    """
    pattern, criterion = rule.pattern, rule.criterion
    single = type(pattern).pool is Pattern.pool and type(pattern).mask is Pattern.mask
    if not (single and criterion.entrywise and matrix.device.type == "cpu"):
        return None
    flat = matrix.reshape(-1)
    return lambda at: criterion.scores(flat[at])


def mask_of(rule: Rule, matrix: Tensor, scores: Scores, sparsity: float) -> BitMask:
    """The very mask [out, in] of ``rule.pattern.mask``."""
    count = matrix.numel()
    going = rule.pattern.going(sparsity, count)
    bits = all_but_lowest(Part(count, scores, count), going)
    return BitMask(bits, tuple(matrix.shape), count - going)
