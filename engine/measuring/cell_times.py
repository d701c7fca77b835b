"""The times of a cell: dense, what ran, and others that were tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...kernels.dispatch.race import DENSE
from ...kernels.dispatch.timing import Timing


def cell_times(times: Mapping[str, Timing], path: str, others: Iterable[str]) -> dict[str, Any]:
    """The times of a cell about the form at `path`; `others` are paths too, beside dense."""
    dense, ran = times[DENSE], times[path]
    return {
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
            for name, each in ((name, times[name]) for name in others)
        ],
    }
