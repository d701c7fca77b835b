"""A cell of S1's tables: the times of one form, under the keys of `measure`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...kernels.dispatch.noise import in_doubt
from ...kernels.dispatch.race import DENSE
from ...kernels.dispatch.timing import Timing
from ...kernels.modules.conv import SparseConv
from ...kernels.modules.layers import is_convolution
from ...kernels.modules.linear import SparseLinear
from ..paper.words import verdict
from .cell_times import cell_times
from .off_the_shelf import IM2COL

Json = dict[str, Any]


def figures(times: Mapping[str, Timing], path: str, disturbed: bool) -> Json:
    """The times of a cell that is about the form at `path`, under the keys of `measure`.

    `disturbed`: something else kept the machine busy meanwhile (`noise.Watch`).
    """
    pair = {name: times[name] for name in {DENSE, path}}
    busy = path != DENSE and in_doubt(pair, DENSE, disturbed)
    cell = {
        "ran": path,
        **cell_times(times, path, (name for name in times if name == IM2COL)),
        "roofline": None,
        "steps": [],
        "disturbed": disturbed,
        "cached": False,
        "crossover": None,
    }
    return {**cell, "verdict": verdict(cell, busy)}


def fused(module: nn.Module, mask: Tensor) -> nn.Module:
    """A layer in this program's group-wise form, which gathers inside its product."""
    kind = SparseConv if is_convolution(module) else SparseLinear
    return kind.from_dense(module, "grouped", mask)
