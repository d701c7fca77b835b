"""The measured cells as the rows of the layer chart, and what is said of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..state.cells import Cell, Setting, key, setting, setting_words
from ..state.verdict_words import factor, sentence
from .plot import milliseconds

ROLES = {"faster": "leaf", "same": "blue", "slower": "amber", "busy": "faint", "failed": "rose"}
"""The colour of the bars of each kind of verdict, as a role of the theme."""


@dataclass(frozen=True)
class Row:
    """One measured cell, or one that failed; `first` of its layer, which then is named."""

    cell: Cell
    first: bool

    @property
    def key(self) -> tuple[Any, ...]:
        """What the cell is of."""
        return key(self.cell)

    @property
    def whole(self) -> bool:
        """Whether the whole model was measured."""
        return self.cell["layer"] is None

    @property
    def name(self) -> str:
        """The layer's path."""
        everything = self.cell["pattern"] is None
        return self.cell["layer"] or ("Everything" if everything else "Whole model")

    @property
    def how(self) -> str:
        """Pattern and share: ``group · 40 % kept``."""
        return how(self.cell)

    @property
    def kind(self) -> str:
        """The verdict's kind, or ``failed``."""
        return "failed" if self.cell.get("error") else str(self.cell["verdict"]["kind"])

    @property
    def headline(self) -> str:
        """The verdict in at most two words."""
        return short(self.cell)

    @property
    def times(self) -> str:
        """Both times and what ran: ``0.94 → 0.58 · grouped (gather)``."""
        cell = self.cell
        if cell.get("error"):
            return ""
        both = f"{milliseconds(cell['dense_ms'])} → {milliseconds(cell['ms'])} ms"
        return both if cell["ran"] == "dense" else f"{both} · {cell['ran']}"

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the opened row says below its bars."""
        cell = self.cell
        if cell.get("error"):
            return (sentence(cell),)
        lines = [sentence(cell), roofline_words(cell)]
        if (cell.get("roofline") or {}).get("disturbed"):
            lines.append("The machine was busy when the roofline was measured.")
        if cell.get("crossover") is not None:
            lines.append(f"Faster here from {cell['crossover'] * 100:.0f} % sparsity on.")
        if cell.get("cached"):
            lines.append("Read from the cache: measured on this machine before.")
        return tuple(line for line in lines if line)

    @property
    def longest(self) -> float:
        """The longer of both medians, in milliseconds."""
        return max(float(self.cell.get(name) or 0) for name in ("dense_ms", "ms"))

    @property
    def slowest(self) -> float:
        """The longer of both bars with its whisker, in milliseconds."""
        quartiles = (float(self.cell.get(name) or 0) for name in ("dense_q3_ms", "q3_ms"))
        return max(self.longest, *quartiles)

    @property
    def tried(self) -> Sequence[dict[str, Any]]:
        """The other candidates, the fastest first."""
        return sorted(self.cell.get("tried") or (), key=lambda one: float(one["ms"]))


def how(cell: Cell) -> str:
    """Pattern and share of a cell: ``group · 40 % kept``."""
    if cell["pattern"] is None:
        return setting_words(setting(cell))
    return f"{cell['pattern']} · {cell['kept'] * 100:.0f} % kept"


def short(cell: Cell) -> str:
    """A cell's verdict in at most two words: ``1.62×``, ``stays dense``, ``busy``, ``failed``."""
    if cell.get("error"):
        return "out of memory" if "memory" in cell["error"] else "not measured"
    if cell["verdict"]["kind"] == "busy":
        return "machine busy"
    return "stays dense" if cell["ran"] == "dense" else factor(cell, 2)


def roofline_words(cell: Cell) -> str:
    """How near what ran came to what the machine can do, else empty."""
    roof = cell.get("roofline")
    if not roof:
        return ""
    limit = {"compute": "arithmetic", "memory": "memory"}.get(roof["bound"], roof["bound"])
    about = "About " if roof.get("disturbed") else ""
    return (
        f"{about}{roof['share'] * 100:.0f} % of the roofline: {limit} allows "
        f"{milliseconds(roof['limit_ms'])} ms at best "
        f"({_si(roof['operations'])}FLOP, {_si(roof['bytes'])}B)."
    )


def rows(cells: Sequence[Cell], order: Sequence[str], chosen: Setting | None) -> list[Row]:
    """The cells of one setting: the whole model first, then layers in the model's `order`."""
    places = {path: place for place, path in enumerate(order)}
    shown = [cell for cell in cells if setting(cell) == chosen]
    shown.sort(
        key=lambda c: (
            c["layer"] is not None, places.get(c["layer"], -1), not c["run"],
            c["pattern"] or "", -(c["kept"] or 0),
        )
    )  # fmt: skip
    made = []
    for number, cell in enumerate(shown):
        first = number == 0 or shown[number - 1]["layer"] != cell["layer"]
        made.append(Row(cell, first))
    return made


def _si(value: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} "
