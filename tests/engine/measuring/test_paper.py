"""S1's tables on small networks and layers of the same make: every cell, every page, every word."""

import csv
import io
import json
from functools import partial
from html import escape
from html.parser import HTMLParser

import pytest
import torch
from torch import nn

from secateur.engine.errors import BadInput
from secateur.engine.events import Cancelled, Finished, LayerDone, Progress, Started
from secateur.engine.measuring import paper_layers
from secateur.engine.measuring.off_the_shelf import IM2COL, GemmLayer, SparseProduct
from secateur.engine.measuring.paper import PATTERN_OF, paper
from secateur.engine.measuring.paper_cells import fused
from secateur.engine.measuring.paper_layers import SingleLayer
from secateur.engine.measuring.paper_models import KEPT, NETWORKS, Data, Network, Subject
from secateur.engine.measuring.paper_text import paper as as_text
from secateur.engine.paper.published import published
from secateur.engine.paper.words import FORMS, baseline_ms, order, times
from secateur.engine.report.cells_csv import COLUMNS, cells_csv
from secateur.engine.report.paper import paper_html
from secateur.kernels.modules.conv import SparseConv

OFF_THE_SHELF = {"element", "vector", "block", "group"}


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.Flatten(),
        nn.Linear(32 * 36, 20),
    )  # fmt: skip


NETWORK = Network("vgg16", "Small", small, (Data("CIFAR-10", (3, 8, 8)),))
LAYERS = (
    SingleLayer("convolution 8→8", partial(nn.Conv2d, 8, 8, 3, padding=1), (8, 6, 6), 2),
    SingleLayer("linear 64→64", partial(nn.Linear, 64, 64), (64,), 4),
)


@pytest.fixture(scope="module")
def events():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "vgg16", NETWORK)
        patch.setattr(paper_layers, "LAYERS", LAYERS)
        return list(paper(("vgg16",), device="cpu", batches=(1, 2), seconds=0.002))


@pytest.fixture(scope="module")
def result(events):
    assert isinstance(events[-1], Finished)
    return events[-1].result


def test_there_is_a_cell_for_every_form_share_and_batch(result):
    asked = {(c["form"], c["asked"], c["batch"]) for c in result["cells"]}
    assert asked == {(form, kept, batch) for form in FORMS for kept in KEPT for batch in (1, 2)}
    assert result["failed"] == []
    assert set(result) == {"machine", "cells", "failed", "layers", "published", "notes", "table"}
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    for cell in result["cells"]:
        assert cell["layer"] is None
        assert cell["pattern"] == PATTERN_OF[cell["form"]]
        assert cell["kept"] == pytest.approx(cell["asked"], abs=0.02)
        assert cell["speedup"] == pytest.approx(cell["dense_ms"] / cell["ms"])
        assert cell["q1_ms"] <= cell["ms"] <= cell["q3_ms"]
        assert [row["path"] for row in cell["tried"]] == [IM2COL]
        assert ("MKL" in cell["ran"]) == (cell["form"] in OFF_THE_SHELF)
        assert cell["verdict"]["kind"] in {"faster", "same", "slower", "busy"}
    assert any("random weights" in note for note in result["notes"])


def test_events_count_to_the_end(events, result):
    assert isinstance(events[0], Started)
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert last.done == last.total == len(result["cells"]) + 2 * len(paper_layers.SPARSITIES)
    rows = [event.values for event in events if isinstance(event, LayerDone)]
    assert rows == result["cells"] + result["layers"]


def test_single_layers_have_their_steps(result):
    names = {cell["layer"]: set() for cell in result["layers"]}
    for cell in result["layers"]:
        names[cell["layer"]].add(cell["form"])
        if cell["form"] == "select":
            parts = [part["name"] for part in cell["steps"][0]["parts"]]
            conv = cell["layer"].startswith("conv")
            assert parts == (["im2col"] * conv + ["select", "multiply"] + ["reshape"] * conv)
    assert names == {
        "convolution 8→8": {"select", "thinned", "gather"},
        "linear 64→64": {"select", "gather"},
    }


@pytest.mark.parametrize("word", ["element", "vector:4", "block:16x16", "group"])
def test_a_network_in_any_form_computes_the_pruned_one(word):
    subject = Subject(NETWORK, torch.device("cpu"))
    masks = subject.masks(word, 0.5)
    assert subject.kept(masks) == pytest.approx(0.5, abs=0.02)
    (x,), _ = subject.call(NETWORK.data[0], 2)
    makes = [SparseProduct, partial(SparseProduct, block=16)]
    if word == "group":
        makes += [GemmLayer, fused]
    with torch.inference_mode():
        expected = subject.pruned(masks)(x)
        assert not torch.allclose(expected, subject.module(x))
        for make in makes:
            network = subject.with_layers(masks, make)
            torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


def test_ours_gathers_inside_the_product():
    subject = Subject(NETWORK, torch.device("cpu"))
    network = subject.with_layers(subject.masks("group", 0.5), fused)
    assert isinstance(network[2], SparseConv)
    assert network[2].form == "grouped"


def test_a_round_that_would_take_too_long_is_a_row_that_says_so(monkeypatch):
    monkeypatch.setitem(NETWORKS, "vgg16", NETWORK)
    monkeypatch.setattr("secateur.engine.measuring.paper._LONGEST", 0.0)
    options = {"device": "cpu", "batches": (1, 2), "seconds": 0.001, "layers": False}
    result = list(paper(("vgg16",), **options))[-1].result
    assert {cell["batch"] for cell in result["cells"]} == {1}
    assert {row["batch"] for row in result["failed"]} == {2}
    assert all("would take about" in row["error"] for row in result["failed"])
    assert "not measured: vgg16" in as_text(result)
    assert "Not measured" in paper_html(result)


def test_a_form_that_cannot_run_leaves_the_others(monkeypatch):
    def broken() -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Flatten(), nn.Linear(8 * 36, 20))

    network = Network("vgg16", "Grouped", broken, (Data("CIFAR-10", (4, 8, 8)),))
    monkeypatch.setitem(NETWORKS, "vgg16", network)
    options = {"device": "cpu", "batches": (1,), "seconds": 0.001, "layers": False}
    result = list(paper(("vgg16",), **options))[-1].result
    assert any("no off-the-shelf form" in row["error"] for row in result["failed"])


def test_cancel_stops_between_timings(monkeypatch):
    monkeypatch.setitem(NETWORKS, "vgg16", NETWORK)
    asked = []

    def cancel() -> bool:
        asked.append(1)
        return len(asked) > 5

    events = list(paper(("vgg16",), device="cpu", seconds=0.001, cancel=cancel))
    assert isinstance(events[-1], Cancelled)
    assert len(asked) == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"models": ("resnet19",)}, "did you mean 'resnet18'"),
        ({"device": "gpu"}, "unknown device"),
        ({"batches": (0,)}, "at least 1"),
    ],
)
def test_bad_input_is_one_clear_sentence(options, words):
    with pytest.raises(BadInput, match=words):
        next(paper(**options))


def test_what_the_paper_prints_is_whole():
    rows = published()
    assert {row["source"] for row in rows} == {f"table {n}" for n in range(1, 9)}
    assert {row["model"] for row in rows} == set(NETWORKS)
    assert {row["form"] for row in rows} == OFF_THE_SHELF | {"select"}
    for row in rows:
        assert 0.2 < row["kept"] < 0.85
        assert row["kept"] == pytest.approx(row["asked"], abs=0.15)
        assert row["speedup"] == pytest.approx(row["dense_ms"] / row["ms"])
    keys = [(row["model"], row["data"], row["form"], row["asked"]) for row in rows]
    assert len(set(keys)) == len(keys)
    # Section 3.3: all pruned models are much slower than dense through the sparse library.
    assert all(row["speedup"] < 0.6 for row in rows if row["form"] in OFF_THE_SHELF)
    # Section 5.2: at 25 % all are at least as fast as dense; on VGG-16 no more than that.
    quarter = [row for row in rows if row["form"] == "select" and row["asked"] == 0.25]
    assert all(row["speedup"] >= 1 for row in quarter)
    assert published(("vgg16",)) == [row for row in rows if row["model"] == "vgg16"]


def test_the_order_is_checked_against_both_baselines():
    def cell(form: str, asked: float, dense: float, im2col: float, ms: float) -> dict:
        tried = [{"path": IM2COL, "ms": im2col}]
        return {"model": "m", "data": "d", "batch": 1, "form": form, "asked": asked, "ms": ms,
                "dense_ms": dense, "tried": tried}  # fmt: skip

    cells = [cell("element", 0.5, 1.0, 3.0, 2.0), cell("gather", 0.5, 2.0, 4.0, 3.0),
             cell("gather", 0.25, 2.0, 4.0, 1.0), cell("ours", 0.5, 2.0, 4.0, 2.0),
             cell("ours", 0.25, 2.0, 4.0, 1.0)]  # fmt: skip
    assert baseline_ms(cells[0]) == 3.0
    assert [(row["baseline"], row["holds"]) for row in order(cells)] == [
        ("im2col + GEMM", 0), ("im2col + GEMM", 1), ("im2col + GEMM", 1),
        ("framework", 1), ("framework", 0), ("framework", 1),
    ]  # fmt: skip
    assert order(cells)[0]["but"] == ["m on d, batch 1: 1.50×"]
    assert order(cells)[4]["but"] == ["m on d, batch 1: 1.00×"], "dense stayed, nothing was faster"
    words = [times(factor) for factor in (0.0161, 0.5, 0.999, 1.234, 12.34, 123.4)]
    assert words == ["0.016×", "0.50×", "1.00×", "1.23×", "12.3×", "123×"]


class Balanced(HTMLParser):
    """Checks that every element is closed where it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_shows_both_and_says_against_what(result):
    html = paper_html(result)
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert "<script" not in html
    assert "http" not in html
    for words in ("RTX 2080 Ti", "against im2col + GEMM", "against the framework", *FORMS.values()):
        assert escape(words) in html
    # Three panels a batch, one scatter, a line plot for each layer and the steps of both.
    assert html.count("<svg") == 2 * 3 + 1 + 2 + 2


def test_the_text_has_a_line_for_every_form(result):
    text = as_text(result)
    for name in FORMS.values():
        assert sum(line.startswith(name) for line in text.splitlines()) == 2
    assert "0.020×" in text, "table 1: VGG-16, element-wise, 50 % kept"
    assert "The paper's order:" in text
    assert "linear 64→64" in text


def test_the_csv_reads_back(result):
    failed = [{"model": "m", "layer": None, "pattern": "group", "error": 'no, not "now"'}]
    cells = result["cells"] + result["layers"]
    text = cells_csv(cells, failed)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == [*COLUMNS[:-1], "data", "input", "form", "asked", "error"]
    assert rows[-1]["error"] == 'no, not "now"'
    ran = [row for row in rows if row["ran"] == "yes"]
    assert [float(row["ms"]) for row in ran] == [
        c["ms"] for c in result["cells"] + result["layers"]
    ]
    dense = [row for row in rows if row["path"] == "dense"]
    assert all(float(row["speedup"]) == 1.0 for row in dense)
    assert len(dense) == len(cells)
