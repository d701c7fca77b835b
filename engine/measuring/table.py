"""What was measured of one model on one machine, as a file that can be looked things up in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from ..errors import BadInput
from ..files import replacing

Json = dict[str, Any]

VERSION = 1
"""Of the file; it grows when a reader of today would misunderstand the file."""

_SAME = 0.005
"""Achieved sparsities this close are one: patterns round to their units."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call as a layer or model runs, and dense. `ran` names what runs."""

    ms: float
    dense_ms: float
    ran: str


@dataclass(frozen=True)
class LatencyTable:
    """Cells, as `measure` makes them, and what could not be measured.

    `model` is the address, `digest` that of the weights (`Model.digest`), `machine` what `describe`
    says, with the measured peaks.
    """

    model: str
    digest: str
    machine: Json
    cells: list[Json]
    failed: list[Json]

    def lookup(
        self,
        layer: str | None,
        pattern: str,
        sparsity: float,
        batch: int = 1,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> Latency | None:
        """What a layer (None: the whole model) takes at a sparsity in [0, 1).

        `pattern` is the plan's short form. Between two measured sparsities on a straight line, with
        the form of the nearer one; below the lowest towards dense at 0. None above the highest, and
        where nothing was measured. What noise left in doubt counts as not measured.
        """
        wanted: Json = {
            "layer": layer,
            "pattern": pattern,
            "batch": batch,
            "dtype": dtype,
            "device": device,
        }
        points = [(1 - c["kept"], _latency(c)) for c in self.cells if _is(c, wanted)]
        points.sort(key=lambda point: point[0])
        if not points:
            return None
        dense = points[0][1].dense_ms
        points = [(0.0, Latency(dense, dense, "dense")), *points]
        for (low, before), (high, after) in pairwise(points):
            if sparsity <= high + _SAME:
                share = min(1.0, (sparsity - low) / max(high - low, 1e-9))
                return _between(before, after, share)
        return None

    def save(self, path: Path) -> None:
        """Write it as JSON; raises BadInput where that can't be done."""
        fields = ("model", "digest", "machine", "cells", "failed")
        data = {"version": VERSION, **{name: getattr(self, name) for name in fields}}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(data, allow_nan=False, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it; raises BadInput for any other file, or one of a newer version."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError:
            raise BadInput(f"{path} is no latency table: it is not JSON") from None
        if not isinstance(data, dict) or not isinstance(data.get("cells"), list):
            raise BadInput(f"{path} is no latency table; secateur measure --table writes one")
        if data.get("version") != VERSION:
            raise BadInput(
                f"{path} is a latency table of version {data.get('version')}, not {VERSION}; "
                "measure again"
            )
        try:
            return cls(**{name: value for name, value in data.items() if name != "version"})
        except TypeError:
            raise BadInput(f"{path} is no whole latency table; measure again") from None


def _is(cell: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    told = cell["verdict"]["kind"] != "busy"
    return told and all(cell[key] == value for key, value in wanted.items())


def _latency(cell: Mapping[str, Any]) -> Latency:
    return Latency(cell["ms"], cell["dense_ms"], cell["ran"])


def _between(one: Latency, other: Latency, share: float) -> Latency:
    ms = one.ms + share * (other.ms - one.ms)
    dense = one.dense_ms + share * (other.dense_ms - one.dense_ms)
    return Latency(ms, dense, (other if share >= 0.5 else one).ran)
