from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from secateur.engine.errors import BadInput
from secateur.engine.events import Cancelled
from secateur.engine.measuring.measure import measure
from secateur.engine.measuring.request import Request
from secateur.engine.measuring.table import Latency, LatencyTable
from secateur.engine.models import open_model

ASKED = Request(patterns=("group",), sparsities=(0.5, 0.9), layers=("layer3*",))


def cell(sparsity: float, ms: float, **other: Any) -> dict[str, Any]:
    values = {
        "layer": "fc",
        "pattern": "group",
        "kept": 1 - sparsity,
        "batch": 1,
        "dtype": "float32",
        "device": "cpu",
        "ran": "grouped",
        "dense_ms": 10.0,
        "ms": ms,
        "verdict": {"kind": "faster"},
    }
    return {**values, **other}


def table(*cells: dict[str, Any]) -> LatencyTable:
    return LatencyTable("m", "digest", {"cpu": "a CPU"}, [*cells], [])


def test_lookup_finds_what_was_measured_and_goes_straight_between():
    known = table(cell(0.75, 5), cell(0.5, 10, ran="dense"), cell(0.9, 2), cell(0.5, 1, layer=None))
    assert known.lookup("fc", "group", 0.75) == Latency(5, 10, "grouped")
    assert known.lookup("fc", "group", 0.751).ms == pytest.approx(5, abs=0.05)
    assert known.lookup("fc", "group", 0.6).ms == pytest.approx(8)
    assert known.lookup("fc", "group", 0.6).ran == "dense"
    assert known.lookup("fc", "group", 0.0) == Latency(10, 10, "dense")
    assert known.lookup(None, "group", 0.5).ms == 1


@pytest.mark.parametrize(
    "asked",
    [
        {"sparsity": 0.95},
        {"layer": "conv"},
        {"pattern": "filter"},
        {"batch": 8},
        {"dtype": "bfloat16"},
        {"device": "cuda"},
    ],
)
def test_lookup_makes_nothing_up(asked):
    known = table(cell(0.5, 8), cell(0.9, 2))
    assert known.lookup(**{"layer": "fc", "pattern": "group", "sparsity": 0.9, **asked}) is None


def test_what_noise_left_in_doubt_is_not_known():
    assert table(cell(0.5, 8, verdict={"kind": "busy"})).lookup("fc", "group", 0.5) is None


def test_a_table_reads_back_and_holds_what_measuring_found(tmp_path):
    path = tmp_path / "table.json"
    model = open_model("sample:digits-resnet")
    *_, last = measure(model, request=replace(ASKED, save=path), seconds=0.005)
    known = LatencyTable.load(path)
    assert last.result["table"] == str(path)
    assert (known.model, known.digest) == (model.address, model.digest())
    assert known.cells == last.result["cells"]
    assert known.machine == last.result["machine"]
    told = [each for each in known.cells if each["verdict"]["kind"] != "busy"]
    for each in told:
        found = known.lookup(each["layer"], each["pattern"], 1 - each["kept"])
        assert found.ms == pytest.approx(each["ms"], rel=1e-6)
    copy = tmp_path / "copy.json"
    known.save(copy)
    assert LatencyTable.load(copy) == known


def test_what_was_measured_survives_a_cancel(tmp_path):
    path = tmp_path / "table.json"
    model, seen = open_model("sample:digits-resnet"), []
    asked = replace(ASKED, save=path)
    for event in measure(model, request=asked, cancel=lambda: len(seen) > 9, seconds=0.005):
        seen.append(event)
    assert isinstance(seen[-1], Cancelled)
    assert 0 < len(LatencyTable.load(path).cells) < 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no", "not JSON"),
        ("[]", "no latency table"),
        (json.dumps({"version": 7, "cells": []}), "version 7"),
        (json.dumps({"version": 1, "cells": []}), "no whole latency table"),
    ],
)
def test_another_file_is_bad_input(tmp_path, text, words):
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=words):
        LatencyTable.load(path)
    with pytest.raises(BadInput, match="cannot be read"):
        LatencyTable.load(tmp_path / "missing.json")


def test_a_missing_folder_is_told_before_anything_is_timed():
    with pytest.raises(BadInput, match="no such folder"):
        Request(save=Path("/no/such/folder/table.json"))
