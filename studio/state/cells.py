"""Measured cells, as the engine gives them, kept by what they are of.

A cell that could not be measured is a row with ``error`` and no times; where nothing of a layer or
of a whole setting could be, its pattern and share are None too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...engine.info import LayerInfo
from ...engine.plan import Rule

Cell = dict[str, Any]
Setting = tuple[int, str, str]
"""Batch, dtype and device: cells are compared only where all three are the same."""

_KEYS = ("run", "layer", "pattern", "kept", "batch", "dtype", "device")
NEAR = 0.02
"""A measurement at a share of kept weights this close counts as one of this very choice."""


def nearness(layer: LayerInfo | None) -> float:
    """The same for a layer: a small one cannot be cut more finely than by a row or a column."""
    units = min(layer.gemm.shape) if layer is not None and layer.gemm is not None else 0
    return max(NEAR, 0.501 / units) if units else NEAR


def key(cell: Cell) -> tuple[Any, ...]:
    """What a cell is of: two cells with the same key are two measurements of the same."""
    return tuple(cell.get(name) for name in _KEYS)


def setting(cell: Cell) -> Setting:
    """Under which batch, dtype and device a cell was measured."""
    return int(cell["batch"]), str(cell["dtype"] or "as loaded"), str(cell["device"])


def setting_words(chosen: Setting) -> str:
    """A setting as people read it: ``batch 8 · float32 · CPU``."""
    batch, dtype, device = chosen
    return f"batch {batch} · {dtype} · {device.upper()}"


def pattern_word(rule: Rule) -> str:
    """The rule's pattern in its short form, such as ``block:4x4``."""
    word = rule.pattern.to_plan()
    return word if isinstance(word, str) else str(word["kind"])


class Measurements:
    """What was measured of the opened model, the newest cell of each kind.

    `whole` is the cell of the whole model as the last run left it, `machine` where the engine
    measured, `seconds` the time that one cell took lately (None: nothing was measured).
    """

    def __init__(self) -> None:
        self.cells: tuple[Cell, ...] = ()
        self.whole: Cell | None = None
        self.machine: dict[str, Any] = {}
        self.seconds: float | None = None
        self._by_layer: dict[str | None, list[Cell]] = {}

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The settings under which anything was measured, the latest last."""
        found: dict[Setting, None] = {}
        for cell in self.cells:
            found.pop(setting(cell), None)
            found[setting(cell)] = None
        return tuple(found)

    def add(self, cells: Iterable[Cell], of_run: bool) -> None:
        """Take new cells, of the last run's model (`of_run`) or of patterns to try."""
        new = {key(cell): cell for cell in ({**cell, "run": of_run} for cell in cells)}
        # A measurement that is made again moves to the end, so that the latest is the last.
        self._keep((*(c for c in self.cells if key(c) not in new), *new.values()))
        whole = [c for c in new.values() if of_run and c["layer"] is None and c.get("ms")]
        self.whole = whole[-1] if whole else self.whole

    def forget_run(self) -> None:
        """Another run is done: times of the run before it say nothing of it."""
        self.whole = None
        self._keep(tuple(cell for cell in self.cells if not cell["run"]))

    def of_run(self) -> list[Cell]:
        """The cells of the last run's model, as the engine gave them."""
        return [
            {name: value for name, value in cell.items() if name != "run"}
            for cell in self.cells
            if cell["run"] and cell.get("ms")
        ]

    def of_layer(self, path: str | None) -> list[Cell]:
        """The cells of one layer, None: of the whole model."""
        return self._by_layer.get(path, [])

    def of_rule(self, path: str, rule: Rule) -> list[Cell]:
        """The timed cells of a layer that are of the rule's pattern."""
        names = {pattern_word(rule), rule.pattern.kind}
        return [c for c in self.of_layer(path) if c.get("ms") and c["pattern"] in names]

    def verdict(self, path: str, rule: Rule | None, near: float = NEAR) -> Cell | None:
        """The cell that says whether the layer is faster so; without a rule its fastest cell.

        None where nothing within `near` of the rule's sparsity was measured.
        """
        if rule is None:
            timed = [c for c in self.of_layer(path) if c.get("ms")]
            return max(timed, key=lambda c: (not c.get("disturbed"), c["speedup"]), default=None)
        names = pattern_word(rule), rule.pattern.kind
        found = [
            (abs(cell["kept"] - 1 + rule.sparsity), cell)
            for cell in reversed(self.of_layer(path))  # of two alike the later one
            if cell["pattern"] in names and cell["kept"] is not None
        ]
        distance, nearest = min(found, key=lambda pair: pair[0], default=(1.0, None))
        return nearest if distance <= near else None

    def _keep(self, cells: tuple[Cell, ...]) -> None:
        self.cells = cells
        self._by_layer = {}
        for cell in cells:
            self._by_layer.setdefault(cell["layer"], []).append(cell)
