"""Measured cells as CSV: one row for each timing. Torch-free."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]

COLUMNS = (
    "model", "layer", "pattern", "kept", "batch", "dtype", "device", "path", "ran", "ms", "q1_ms",
    "q3_ms", "speedup", "verdict", "disturbed", "error",
)  # fmt: skip
"""``layer`` is empty for a whole model, ``ran`` says ``yes`` of the path that the cell is about,
``speedup`` is against dense; ``verdict`` is the cell's in a word, and ``disturbed`` ``yes`` where
the machine was busy, so that factors are not to be believed."""

_MORE = ("data", "input", "form", "asked")
"""What cells of the paper's tables say besides."""


def cells_csv(cells: Iterable[Json], failed: Iterable[Json] = ()) -> str:
    """The cells of a measurement as CSV text with a header; rows that failed have only an error.

    A cell gives a row for dense, one for what ran, and one for every other path that was tried.
    """
    rows = [*(row for cell in cells for row in _timings(cell)), *map(dict, failed)]
    more = tuple(name for name in _MORE if any(name in row for row in rows))
    text = io.StringIO()
    writer = csv.DictWriter(
        text, (*COLUMNS[:-1], *more, "error"), restval="", extrasaction="ignore",
        lineterminator="\n",
    )  # fmt: skip
    writer.writeheader()
    writer.writerows({**row, "layer": row["layer"] or ""} for row in rows)
    return text.getvalue()


def _timings(cell: Json) -> Iterator[dict[str, Any]]:
    dense = {name: cell.get(f"dense_{name}") for name in ("ms", "q1_ms", "q3_ms")}
    paths = [{"path": "dense", **dense}]
    if cell["ran"] != "dense":
        paths.append({"path": cell["ran"], **{name: cell.get(name) for name in dense}})
    for row in (*paths, *cell["tried"]):
        yield {
            **cell,
            **row,
            "ran": "yes" if row["path"] == cell["ran"] else "no",
            "speedup": cell["dense_ms"] / row["ms"],
            "verdict": cell["verdict"]["kind"],
            "disturbed": "yes" if cell.get("disturbed") else "no",
        }
