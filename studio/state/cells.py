"""Measured cells, as the engine gives them, kept by what they are of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Cell = dict[str, Any]
_KEYS = ("run", "layer", "pattern", "kept", "batch", "dtype", "device")


def marked(cells: Iterable[Cell], of_run: bool) -> list[Cell]:
    """The cells with ``run``: whether they are of the last run's model, or of patterns to try."""
    return [{**cell, "run": of_run} for cell in cells]


def newest(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """The last cell of each kind, in the order in which the kinds came."""
    return tuple({tuple(cell.get(key) for key in _KEYS): cell for cell in cells}.values())
