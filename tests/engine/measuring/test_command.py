"""`secateur measure` as typed."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from secateur.engine import text
from secateur.engine.cli import main
from secateur.engine.events import Cancelled, Event, LayerDone
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


def test_the_text_lists_steps_and_what_lost_where_they_were_asked_for(
    capfd: pytest.CaptureFixture[str],
):
    words = [*MODEL, "--patterns", "element", "--sparsities", "0.5", "--batch", "1,2"]
    assert main(words) == 0
    plain = capfd.readouterr().out
    assert "\nsteps" not in plain
    assert "lost" not in plain
    assert main([*words, "--steps", "--every"]) == 0
    _, steps, lost = capfd.readouterr().out.split("\n\n")[-3:]
    head, _, *rows = (line.split() for line in steps.splitlines()[1:])
    assert head == ["layer", "pattern", "kept", "batch", "form", "multiply", "ms"]
    assert {(row[4], row[5]) for row in rows} >= {("1", "dense"), ("2", "dense"), ("1", "CSR")}
    assert all(float(row[-1].lstrip("~")) > 0 for row in rows)
    _, _, *rows = lost.splitlines()[1:]
    assert [row.split()[4] for row in rows] == ["1", "2"]
    assert all(row.endswith("×") for row in rows)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--dtypes", "float31"], "did you mean 'float32'"),
        (["--batch", "one"], "--batch takes whole numbers"),
        (["--sparsities", "half"], "--sparsities takes numbers"),
        (["--device", "cpu,tpu"], "unknown device 'tpu'"),
        (["--table", "/no/such/folder/t.json"], "no such folder"),
        (["--table", "/"], "is a folder"),
        (["--csv", "/"], "is a folder"),
        (["--report", "/dev/null"], "is a device"),
    ],
)
def test_bad_flags_are_one_line(capfd: pytest.CaptureFixture[str], flags: list[str], words: str):
    assert main([*MODEL, *flags]) == 2
    line = capfd.readouterr().err
    assert words in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("as_json", [False, True])
def test_what_was_measured_before_ctrl_c_is_printed_and_in_the_files(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any, as_json: bool
):
    files = [tmp_path / name for name in ("times.csv", "page.html", "table.json")]
    asked = ["--csv", str(files[0]), "--report", str(files[1]), "--table", str(files[2])]
    seen = []

    def press_at_the_second_cell(event: Event) -> None:
        seen.append(event)
        if isinstance(event, LayerDone) and sum(isinstance(e, LayerDone) for e in seen) == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(text, "follow", press_at_the_second_cell)
    command = ["measure", "sample:digits-resnet", "--device", "cpu", *asked]
    assert main([*command, *(["--json"] if as_json else [])]) == 130
    assert isinstance(seen[-1], Cancelled)
    done = [event.values for event in seen if isinstance(event, LayerDone)]
    rows = csv.DictReader(files[0].read_text(encoding="utf-8").splitlines())
    assert {row["layer"] for row in rows} == {cell["layer"] for cell in done}
    assert all(cell["layer"] in files[1].read_text(encoding="utf-8") for cell in done)
    assert LatencyTable.load(files[2]).cells == done
    out, err = capfd.readouterr()
    if as_json:
        assert json.loads(out)["cells"] == done
        assert json.loads(out)["table"] == str(files[2])
    else:
        assert all(cell["layer"] in out for cell in done)
    assert "stopped; " in err.splitlines()[-1]
    assert all(str(file) in err.splitlines()[-1] for file in files)
