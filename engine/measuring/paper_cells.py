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
from .off_the_shelf import IM2COL

Json = dict[str, Any]


def figures(times: Mapping[str, Timing], path: str, disturbed: bool) -> Json:
    """The times of a cell that is about the form at `path`, under the keys of `measure`.

    `disturbed`: something else kept the machine busy meanwhile (`noise.Watch`).
    """
    pair = {name: times[name] for name in {DENSE, path}}
    busy = path != DENSE and in_doubt(pair, DENSE, disturbed)
    dense, ran = times[DENSE], times[path]
    cell = {
        "ran": path,
        "dense_ms": dense.median_ms,
        "dense_q1_ms": dense.q1,
        "dense_q3_ms": dense.q3,
        "ms": ran.median_ms,
        "q1_ms": ran.q1,
        "q3_ms": ran.q3,
        "speedup": dense.median_ms / ran.median_ms,
        "spread": max(dense.spread, ran.spread),
        "tried": [
            {"path": name, "ms": each.median_ms, "q1_ms": each.q1, "q3_ms": each.q3}
            for name, each in times.items()
            if name == IM2COL
        ],
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
