"""One step of evolution: weights near zero go, others come (S3, section 3.2.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..compiled.jit import ready
from ..formats.csr import CSR
from ..formats.entries import Entries
from ..selection.topology import Evolved, evolve, put_in, steered

Grow = Callable[[CSR, int], Entries]
"""Finds new entries for what is left of a matrix: at most so many, at places without a weight."""

_MOST = 2.0


@dataclass(frozen=True)
class Pace:
    """How much goes in one step: the `target` share of a layer's weights, and the factor `by`.

    The threshold is multiplied or divided by it after each step.
    """

    target: float
    by: float


@dataclass(frozen=True, eq=False)
class Exchanged:
    """What a step made of a layer.

    `evolved` has its new matrix, `threshold` is the one for next time; `gone` weights went and
    `come` came.
    """

    evolved: Evolved
    threshold: float
    gone: int
    come: int


def exchange(
    matrix: CSR, threshold: float, pace: Pace, keep: int, grow: Grow, lost: Tensor | None = None
) -> Exchanged:
    """Let the weights with |w| <= `threshold` go and as many come that there are `keep`.

    `lost` are bool [entries], weights that go whatever their size. No weights are sorted: the
    threshold is steered towards the target share of those that are neither lost nor zero, as these
    go anyway. Where it has run away, and more than twice as much would go, it is lowered at once;
    where more weights must go than it takes, it is raised until no more than `keep` stay, by a
    selection.

    Fewer than `keep` are there afterwards only where `grow` finds fewer.
    """
    values = matrix.values if lost is None else matrix.values.masked_fill(lost, 0)
    sizes = values.float().abs()
    count = len(sizes)
    zero = count - int(sizes.count_nonzero())  # gone whatever the threshold is
    target = pace.target * (count - zero)
    near = int((sizes <= threshold).count_nonzero())
    while near - zero > _MOST * target:
        threshold /= pace.by
        near = int((sizes <= threshold).count_nonzero())
    following = steered(threshold, near - zero, count - zero, pace.target, pace.by)
    cut = threshold
    if count - near > keep:
        cut = max(threshold, _smallest(sizes, count - keep))
    left = evolve(CSR(matrix.shape, matrix.crow_indices, matrix.col_indices, values), cut)
    stays = len(left.matrix.values)
    grown = grow(left.matrix, keep - stays) if keep > stays else None
    if grown is None:
        return Exchanged(left, following, count - stays, 0)
    after = put_in(left, grown)
    return Exchanged(after, following, count - stays, len(grown.values))


def _smallest(sizes: Tensor, count: int) -> float:
    """The `count`-th smallest of float32."""
    if sizes.device.type == "cpu" and ready():
        from ..compiled.growth import largest_but

        return largest_but(sizes, len(sizes) - count)
    return float(sizes.kthvalue(count).values)


def entries_of(matrix: CSR, outputs: Tensor, inputs: Tensor) -> Tensor:
    """Bool [entries]: those of the flagged `outputs`, bool [out], or `inputs`, bool [in]."""
    crow, columns = matrix.indices32
    of_outputs = outputs.repeat_interleave(crow.diff(), output_size=len(columns))
    return of_outputs.logical_or_(inputs.index_select(0, columns))
