"""`secateur measure` as typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from secateur.engine.cli import main
from secateur.engine.measuring.table import LatencyTable

MODEL = ["measure", "sample:digits-resnet", "--device", "cpu", "--layers", "fc"]


def ask(capfd: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main([*MODEL, *words, "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def test_all_flags_come_through(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    table = tmp_path / "table.json"
    result = ask(
        capfd, "--batch", "1,2", "--dtypes", "float32,bfloat16", "--patterns", "element",
        "--sparsities", "0.5,0.9", "--steps", "--every", "--table", str(table),
    )  # fmt: skip
    cells = result["cells"]
    assert {(cell["batch"], cell["dtype"], round(cell["kept"], 1)) for cell in cells} == {
        (batch, dtype, kept)
        for batch in (1, 2)
        for dtype in ("float32", "bfloat16")
        for kept in (0.5, 0.1)
    }
    for cell in cells:
        # Without --every a layer this small is not tried as CSR.
        assert "CSR" in {cell["ran"], *(row["path"] for row in cell["tried"])}
        assert {"dense", "CSR"} <= {step["path"] for step in cell["steps"]}
    peaks = result["machine"]["peaks"]["cpu"]
    assert set(peaks["gflops"]) >= {"float32", "bfloat16"}
    assert peaks["gb_per_s"] > 0
    assert result["table"] == str(table)
    assert LatencyTable.load(table).cells == cells


def test_the_text_has_the_settings_that_differ_and_why_something_is_missing(
    capfd: pytest.CaptureFixture[str],
):
    words = ["measure", "sample:digits-vit", "--batch", "1,2", "--patterns", "group"]
    assert main([*words, "--sparsities", "0.5", "--layers", "*0.self_attention*,*0.linear1"]) == 0
    out = capfd.readouterr().out
    head = out.splitlines()[0]
    assert "batch" in head
    assert "dtype" not in head
    assert "not measured: " in out
    assert "cannot run alone" in out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--dtypes", "float31"], "did you mean 'float32'"),
        (["--batch", "one"], "--batch takes whole numbers"),
        (["--sparsities", "half"], "--sparsities takes numbers"),
        (["--device", "cpu,tpu"], "unknown device 'tpu'"),
        (["--table", "/no/such/folder/t.json"], "no such folder"),
    ],
)
def test_bad_flags_are_one_line(capfd: pytest.CaptureFixture[str], flags: list[str], words: str):
    assert main([*MODEL, *flags]) == 2
    line = capfd.readouterr().err
    assert words in line
    assert line.count("\n") == 1
