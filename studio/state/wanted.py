"""What the next measurement is of, as the person chose it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...engine.info import LayerInfo
from ...engine.patterns import PATTERNS

CELL_SECONDS = 0.6
"""About what one cell takes before any was measured here."""


@dataclass(frozen=True)
class Wanted:
    """Layers by patterns by sparsities, at each batch, dtype and device.

    `of` is ``run`` (the last run's model as it is; without a run all layers), ``selected`` or
    ``all``. `patterns` are short forms, `sparsities` shares of 0..1. No `dtypes`: as loaded; no
    `devices`: the engine's own. `steps` times gather, product and so on apart, `fresh` ignores what
    was measured before, `every` times also the forms that lose for certain.
    """

    of: str = "run"
    patterns: tuple[str, ...] = ("group", "filter")
    sparsities: tuple[float, ...] = (0.5, 0.75, 0.9)
    batches: tuple[int, ...] = (1,)
    dtypes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    steps: bool = False
    fresh: bool = False
    every: bool = False

    def params(self, selection: Sequence[str], has_run: bool) -> dict[str, Any]:
        """What the engine's ``measure`` is asked."""
        as_run = self.of == "run" and has_run
        one = len(self.batches) == 1
        return {
            "layers": list(selection) if self.of == "selected" else None,
            "patterns": None if as_run else list(self.patterns),
            "sparsities": None if as_run else list(self.sparsities),
            **({"batch": self.batches[0]} if one else {"batches": list(self.batches)}),
            "dtypes": list(self.dtypes) or None,
            **({"devices": list(self.devices)} if len(self.devices) > 1 else
               {"device": self.devices[0] if self.devices else "auto"}),
            "steps": self.steps,
            "fresh": self.fresh,
            "every": self.every,
        }  # fmt: skip

    def count(self, layers: Sequence[LayerInfo], whole: bool, pruned: int | None) -> int:
        """How many cells that makes of `layers`; `whole`: the whole model is one more each.

        `pruned` is how many layers the last run pruned, None without a run.
        """
        times = len(self.batches) * max(len(self.dtypes), 1) * max(len(self.devices), 1)
        if self.of == "run" and pruned is not None:
            return (pruned + 1) * times
        cells = 0
        for word in self.patterns:
            pattern = PATTERNS.parse(word)
            fits = sum(pattern.misfit(layer) is None for layer in layers)
            steps = 1 if pattern.fixed_sparsity is not None else len(self.sparsities)
            cells += (fits + (whole and fits > 0)) * steps
        return cells * times
