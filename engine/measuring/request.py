"""What a person asks to have measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Self

import torch

from ..device import pick_device
from ..errors import BadInput, nearest
from ..files import check_writable
from ..patterns import PATTERNS, Pattern

DEFAULT_PATTERNS = ("group", "filter")
DEFAULT_SPARSITIES = (0.5, 0.75, 0.9)
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Setting:
    """In what the model runs: where, in which precision (None: as loaded), how many samples."""

    device: torch.device
    dtype: torch.dtype | None
    batch: int


@dataclass(frozen=True)
class Request:
    """Which layers, patterns and settings to measure; raises BadInput for what can't be asked.

    `layers` are globs, None for all prunable ones. Without `patterns` and `sparsities` a pruned
    model is measured as it is, and any other one by the defaults. `dtypes` None: as the model was
    loaded. `steps` times the parts of each form too, `every` also tries the forms that are known to
    lose, `fresh` ignores what was measured before. `save`: where to write the latency table.
    """

    batches: tuple[int, ...] = (1,)
    layers: tuple[str, ...] | None = None
    patterns: tuple[str, ...] | None = None
    sparsities: tuple[float, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    devices: tuple[str, ...] = ("auto",)
    steps: bool = False
    every: bool = False
    fresh: bool = False
    save: Path | None = None

    def __post_init__(self) -> None:
        for batch in self.batches:
            if batch < 1:
                raise BadInput(f"batch must be at least 1, not {batch}")
        for sparsity in self.sparsities or ():
            if not 0 <= sparsity < 1:
                raise BadInput(f"a sparsity must be at least 0 and below 1, not {sparsity:g}")
        for dtype in self.dtypes or ():
            if dtype not in DTYPES:
                raise BadInput(f"unknown dtype '{dtype}'{nearest(dtype, DTYPES)}")
        for word in self.patterns or ():
            PATTERNS.parse(word)
        if self.save is not None:
            check_writable(self.save)
        self.settings()

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """From a job's parameters, where lists are lists; `batch` and `device` may be single."""

        def several(name: str) -> tuple[Any, ...] | None:
            given = params.get(name)
            return tuple(given) if given else None

        return cls(
            batches=several("batches") or (params.get("batch") or 1,),
            layers=several("layers"),
            patterns=several("patterns"),
            sparsities=several("sparsities"),
            dtypes=several("dtypes"),
            devices=several("devices") or (params.get("device") or "auto",),
            steps=bool(params.get("steps")),
            every=bool(params.get("every")),
            fresh=bool(params.get("fresh")),
            save=Path(params["save"]) if params.get("save") else None,
        )

    @property
    def as_it_is(self) -> bool:
        """Whether a pruned model is to be measured as it was pruned."""
        return self.patterns is None and self.sparsities is None

    def parsed_patterns(self) -> list[Pattern]:
        """The patterns to lay on the layers."""
        return [PATTERNS.parse(word) for word in self.patterns or DEFAULT_PATTERNS]

    def settings(self) -> list[Setting]:
        """Every device by every dtype by every batch, each once; BadInput for a missing device."""
        devices = dict.fromkeys(pick_device(name) for name in self.devices)
        dtypes = [getattr(torch, name) for name in self.dtypes] if self.dtypes else [None]
        return [Setting(*each) for each in product(devices, dtypes, self.batches)]
