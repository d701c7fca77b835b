"""Measured cells as curves: latency over sparsity, and over batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...engine.verdicts import crossover, dense_level, of_busy_machine
from ..state.cells import Cell, Setting, setting
from .plot import milliseconds


@dataclass(frozen=True)
class Point:
    """One measured time in ms with its quartiles (None: not known). `cell` is what it is of.

    `busy`: the machine was, so that the time is too long.
    """

    x: float
    ms: float
    low: float | None
    high: float | None
    tip: str
    cell: Cell
    busy: bool = False


@dataclass(frozen=True)
class Series:
    """One curve. `dense` is the one that all others are held against."""

    name: str
    points: tuple[Point, ...]
    dense: bool = False

    @property
    def level(self) -> float:
        """Of dense times: the one time that all curves over sparsity are held against."""
        return dense_level(point.cell for point in self.points)


@dataclass(frozen=True)
class Crossing:
    """From sparsity `x` on, `name` is faster than dense."""

    name: str
    x: float


def over_sparsity(
    cells: Sequence[Cell], layer: str | None, chosen: Setting | None
) -> tuple[list[Series], list[Crossing]]:
    """Curves over sparsity of one layer (None: whole model), a pattern each, dense first.

    A point is the fastest *sparse* candidate where the cell says which, so that a curve goes on
    above the dense line where dense is what runs.
    """
    # In a run's model other layers may be smaller too: its times are no point of these curves.
    mine = [
        c for c in cells
        if c.get("ms") and not c.get("run") and c["layer"] == layer and setting(c) == chosen
    ]  # fmt: skip
    mine.sort(key=lambda c: 1 - c["kept"])
    if len({cell["kept"] for cell in mine}) < 2:
        return [], []  # one sparsity alone is no curve
    series, crossings, level = [], [], dense_level(mine)
    for pattern in dict.fromkeys(str(cell["pattern"]) for cell in mine):
        of = [cell for cell in mine if cell["pattern"] == pattern]
        points = [point for cell in of if (point := _sparse_point(cell, 1 - cell["kept"]))]
        if points:
            series.append(Series(pattern, tuple(points)))
        crossing = crossover(of, level) if len(of) > 1 else None
        if crossing is not None:
            crossings.append(Crossing(pattern, crossing))
    dense = tuple(_dense_point(cell, 1 - cell["kept"]) for cell in mine)
    return [Series("dense", dense, dense=True), *series], crossings


def over_batch(cells: Sequence[Cell], layer: str | None, chosen: Setting | None) -> list[Series]:
    """Curves over batch size of one layer (None: whole model), dense first.

    A curve is a pattern at one share of kept weights, whatever then ran.
    """
    if chosen is None:
        return []
    mine = [
        c for c in cells
        if c.get("ms") and c["layer"] == layer and setting(c)[1:] == chosen[1:]
    ]  # fmt: skip
    mine.sort(key=lambda c: c["batch"])
    dense = {cell["batch"]: _dense_point(cell, cell["batch"]) for cell in mine}
    curves: dict[str, dict[int, Point]] = {}
    for cell in mine:
        run = ", last run" if cell.get("run") else ""
        name = f"{cell['pattern']} {(1 - cell['kept']) * 100:.0f} %{run}"
        curves.setdefault(name, {})[cell["batch"]] = _point(cell, "", cell["batch"], cell["ran"])
    # One batch alone is no curve.
    series = [Series(name, tuple(p.values())) for name, p in curves.items() if len(p) > 1]
    return [Series("dense", tuple(dense.values()), dense=True), *series] if series else []


def _sparse_point(cell: Cell, x: float) -> Point | None:
    if cell["ran"] != "dense":
        return _point(cell, "", x, cell["ran"])
    lost = min(cell.get("tried") or (), key=lambda one: one["ms"], default=None)
    return None if lost is None else _point({**cell, **lost}, "", x, lost["path"], cell)


def _dense_point(cell: Cell, x: float) -> Point:
    return _point(cell, "dense_", x, "dense")


def _point(values: Cell, prefix: str, x: float, path: str, cell: Cell | None = None) -> Point:
    cell = cell or values
    ms = float(values[f"{prefix}ms"])
    tip = (
        f"{cell['pattern']} at {(1 - cell['kept']) * 100:.0f} % sparsity, batch {cell['batch']}\n"
        f"{path}: {milliseconds(ms)} ms\ndense: {milliseconds(cell['dense_ms'])} ms"
    )
    if busy := of_busy_machine(cell):
        tip += "\nThe machine was busy: both are too long"
    low, high = values.get(f"{prefix}q1_ms"), values.get(f"{prefix}q3_ms")
    return Point(x, ms, low, high, tip, cell, busy)
