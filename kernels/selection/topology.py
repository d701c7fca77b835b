"""The topology of a sparse matrix in training: what is near zero goes, and other entries grow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..compiled.jit import ready
from ..cuda.launch import launch, launchable
from ..cuda.source import Source, scalar
from ..formats.bits import as_integers
from ..formats.csr import CSR
from ..formats.entries import Entries, starts

if TYPE_CHECKING:
    from ..compiled.topology import Made

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("topology_count", "topology_merge"),
    tuple({"T": t} for t in ("float", "half", "bfloat16")),
)

_WARPS = 8


@dataclass(frozen=True, eq=False)
class Evolved:
    """A matrix after an update, its indices int32, and where its entries were.

    `sources` int32 [entries] are the old places, -1 for grown ones.
    """

    matrix: CSR
    sources: Tensor

    def carry(self, state: Tensor) -> Tensor:
        """Bring one number per old entry, such as its momentum, to the new ones; grown get 0."""
        if not len(state):
            return state.new_zeros(len(self.sources))
        if state.device.type == "cpu" and state.element_size() == 4 and ready():
            from ..compiled.topology import carried

            given = self.sources.contiguous(), as_integers(state.contiguous())
            return carried(*given).view(state.dtype)
        found = state.index_select(0, self.sources.clamp_min(0))
        return found.masked_fill_(self.sources < 0, 0)


def evolve(matrix: CSR, threshold: float, grown: Entries | None = None) -> Evolved:
    """Take out the entries with |w| <= `threshold` and put in the `grown` ones, columns ascending.

    `grown` holds entries of the matrix's shape, dtype and device, in row order; they may be zero,
    and may be where an entry has just gone. What stays keeps its order and is not sorted. On a GPU
    this waits once for the device, to learn how many there are.

    Raises ValueError for a negative or undefined threshold, for grown entries that do not fit the
    matrix or are out of order, and where one is at an entry that stays.
    """
    if not threshold >= 0:
        raise ValueError(f"{threshold} is no threshold for sizes")
    if grown is None:
        none = matrix.values.new_empty(0, dtype=torch.int64)
        grown = Entries(matrix.shape, none, none, matrix.values.new_empty(0))
    _check_fits(matrix, grown)
    if launchable(matrix.values) and matrix.values.dtype != torch.float64:
        return evolve_cuda(matrix, threshold, grown)
    if _serves(matrix):
        return _evolve_compiled(matrix, threshold, grown)
    return _evolve(matrix, threshold, grown)


def put_in(left: Evolved, grown: Entries) -> Evolved:
    """The update `left`, of which no entry is zero, and after it `grown` put in, as one.

    Arguments and errors as those of `evolve`.
    """
    matrix = left.matrix
    if not _serves(matrix):
        after = evolve(matrix, 0.0, grown)
        return Evolved(after.matrix, after.carry(left.sources + 1).sub_(1))
    from ..compiled.topology import Made, merged

    _check_fits(matrix, grown)
    before = Made(*matrix.indices32, matrix.values, left.sources)
    come = grown.rows.contiguous(), grown.columns.contiguous(), grown.values.detach().contiguous()
    made, clashes = merged(before, *come, matrix.shape[1])
    _check(made is None, clashes)
    assert made is not None
    return _evolved(matrix, made)


def steered(threshold: float, gone: int, entries: int, target: float, by: float = 1.05) -> float:
    """The threshold for next time, nearer to one at which the share `target` of the entries goes.

    `gone` of `entries` went at `threshold` > 0. It is multiplied or divided by the small factor
    `by`: no entries are sorted (S3, adaptive threshold).
    """
    if gone == target * entries:
        return threshold
    return threshold * by if gone < target * entries else threshold / by


def _serves(matrix: CSR) -> bool:
    """Whether the compiled loops take it."""
    return matrix.values.device.type == "cpu" and matrix.values.dtype == torch.float32 and ready()


def _check_fits(matrix: CSR, grown: Entries) -> None:
    if grown.shape != matrix.shape or grown.values.dtype != matrix.values.dtype:
        raise ValueError(
            f"grown {grown.values.dtype} entries of {grown.shape} do not fit a "
            f"{matrix.values.dtype} matrix of {matrix.shape}"
        )


def _keys(entries: Entries) -> Tensor:
    return entries.rows * entries.shape[1] + entries.columns


def _disorder(grown: Entries) -> Tensor:
    """How many of the grown entries are outside of the matrix, out of order or there twice."""
    outside = (grown.columns < 0) | (grown.columns >= grown.shape[1])
    outside |= (grown.rows < 0) | (grown.rows >= grown.shape[0])
    return outside.sum() + (_keys(grown).diff() <= 0).sum()


def _check(disorder: int | bool, clashes: int) -> None:
    if disorder:
        raise ValueError("grown entries must lie in the matrix, in row order, none twice")
    if clashes:
        raise ValueError(f"{clashes} of the grown entries are in the matrix already")


def _evolve(matrix: CSR, threshold: float, grown: Entries) -> Evolved:
    _check(int(_disorder(grown)), 0)
    entries = matrix.entries()
    # In 16 bits the threshold itself would be rounded.
    sizes = entries.values.to(torch.promote_types(entries.values.dtype, torch.float32)).abs()
    places = (sizes > threshold).nonzero().squeeze(1)
    old = _keys(entries)[places]
    new = _keys(grown)
    # Both ascend: each entry moves on by those of the other that are in front of it.
    in_front = torch.searchsorted(new, old)
    to_old = torch.arange(len(old), device=old.device) + in_front
    to_new = torch.arange(len(new), device=new.device) + torch.searchsorted(old, new)
    if len(new):
        _check(0, int((new[in_front.clamp_max(len(new) - 1)] == old).sum()))
    keys = old.new_empty(len(old) + len(new))
    keys[to_old], keys[to_new] = old, new
    values = entries.values.new_empty(len(keys))
    values[to_old], values[to_new] = entries.values[places], grown.values
    sources = old.new_full((len(keys),), -1, dtype=torch.int32)
    sources[to_old] = places.to(torch.int32)
    width = max(1, matrix.shape[1])
    crow = starts(keys // width, matrix.shape[0]).to(torch.int32)
    return Evolved(CSR(matrix.shape, crow, (keys % width).to(torch.int32), values), sources)


def _evolve_compiled(matrix: CSR, threshold: float, grown: Entries) -> Evolved:
    from ..compiled.topology import survivors

    given = [part.contiguous() for part in (*matrix.indices32, matrix.values.detach())]
    left = _evolved(matrix, survivors(given[0], given[1], given[2], threshold))
    return put_in(left, grown) if len(grown.values) else left


def _evolved(matrix: CSR, made: Made) -> Evolved:
    return Evolved(CSR(matrix.shape, made.crow, made.columns, made.values), made.sources)


def evolve_cuda(matrix: CSR, threshold: float, grown: Entries) -> Evolved:
    """`evolve` by the kernels."""
    rows = matrix.shape[0]
    crow, columns = matrix.indices32
    values = matrix.values.contiguous()
    grown_starts = starts(grown.rows, rows)
    grown_columns = grown.columns.to(torch.int32)
    counts = crow.new_empty(rows)
    clashes = crow.new_zeros(1)
    grid, block = (-(-rows // _WARPS),), (_WARPS * 32,)
    variant = {"T": scalar(values.dtype)}
    before = (crow, columns, values, rows, float(threshold), grown_starts, grown_columns)
    launch(SOURCE, "topology_count", grid, block, (*before, counts, clashes), variant=variant)
    new_starts = pad(counts.cumsum(0), (1, 0))
    facts = torch.stack([new_starts[-1], _disorder(grown), clashes[0].long()])
    count, *problems = facts.tolist()
    _check(*problems)
    new_columns, sources = crow.new_empty(count), crow.new_empty(count)
    new_values = values.new_empty(count)
    args = (*before, grown.values, new_starts, new_columns, new_values, sources)
    launch(SOURCE, "topology_merge", grid, block, args, variant=variant)
    return Evolved(CSR(matrix.shape, new_starts.to(torch.int32), new_columns, new_values), sources)
