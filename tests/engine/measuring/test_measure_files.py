"""`secateur measure --csv --report --paper`: what is written, and what does not go together."""

import csv
import json

import pytest
from torch import nn

from secateur.engine.cli import main
from secateur.engine.measuring import paper_layers
from secateur.engine.measuring.paper_models import NETWORKS, Data, Network
from secateur.engine.paper.words import FORMS

MODEL = "sample:digits-resnet"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def tiny() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Linear(16 * 36, 16))


def test_a_measurement_is_written_as_rows_and_as_a_page(tmp_path, capfd):
    rows, page = tmp_path / "out.csv", tmp_path / "out.html"
    asked = ["--layers", "fc", "--patterns", "group", "--sparsities", "0.5", "--device", "cpu"]
    files = ["--csv", str(rows), "--report", str(page)]
    assert main(["measure", MODEL, *asked, *files, "--json"]) == 0
    (cell,) = json.loads(capfd.readouterr().out)["cells"]
    with rows.open(encoding="utf-8") as file:
        ran = [row for row in csv.DictReader(file) if row["ran"] == "yes"]
    assert [float(row["ms"]) for row in ran] == [cell["ms"]]
    assert cell["verdict"]["words"] in page.read_text(encoding="utf-8")


def test_the_papers_tables_need_no_model(tmp_path, capfd, monkeypatch):
    network = Network("resnet18", "Tiny", tiny, (Data("CIFAR-10", (3, 8, 8)),))
    monkeypatch.setitem(NETWORKS, "resnet18", network)
    monkeypatch.setattr(paper_layers, "LAYERS", ())
    rows, page = tmp_path / "out.csv", tmp_path / "out.html"
    files = ["--csv", str(rows), "--report", str(page)]
    asked = ["--models", "resnet18", "--device", "cpu", "--batch", "1"]
    assert main(["measure", "--paper", *asked, *files, "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert len(result["cells"]) == 3 * len(FORMS)
    assert {"machine", "cells", "failed", "published", "layers"} <= set(result)
    assert {row["model"] for row in result["published"]} == {"resnet18"}
    with rows.open(encoding="utf-8") as file:
        assert sum(row["ran"] == "yes" for row in csv.DictReader(file)) == len(result["cells"])
    assert "RTX 2080 Ti" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([], "needs a MODEL, or --paper"),
        (["--paper", MODEL], "choose among them with --models"),
        ([MODEL, "--models", "vgg16"], "add --paper"),
        (["--paper", "--steps"], "--steps does not go with --paper"),
        (["--paper", "--sparsities", "0.5"], "--sparsities does not go with --paper"),
        (["--paper", "--models", "vgg61"], "did you mean 'vgg16'"),
        (["--paper", "--batch", "0"], "at least 1"),
        (["--paper", "--device", "gpu"], "unknown device"),
        (
            ["--paper", "--device", "cpu,cuda"],
            "run it once with --device cpu and once with --device cuda",
        ),
        ([MODEL, "--report", "no/such/folder/x.html"], "no such folder"),
        (["--paper", "--csv", "no/such/folder/x.csv"], "no such folder"),
    ],
)
def test_bad_input_is_one_line(asked, words, capfd):
    assert main(["measure", *asked]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.count("\n") == 1
