"""The page of a measurement: it parses, escapes, and draws what the cells allow."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest

from secateur.engine.events import Finished
from secateur.engine.measuring.measure import measure
from secateur.engine.measuring.request import Request
from secateur.engine.models import open_model
from secateur.engine.report.axes import Axis, around, fold, percent
from secateur.engine.report.cells_csv import COLUMNS, cells_csv
from secateur.engine.report.latency import latency_html
from secateur.engine.report.plots import Series, grouped_bars, lines, scatter, stacked_bars
from secateur.engine.verdicts import verdict, with_crossovers


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def cell(layer, kept, dense, ms, batch=1, pattern="group", steps=()):
    ran = "grouped (gather)" if ms < dense else "dense"
    shown = min(ms, dense)
    found = {
        "model": "m", "layer": layer, "pattern": pattern, "kept": kept, "batch": batch,
        "dtype": "float32", "device": "cpu", "ran": ran, "dense_ms": dense, "ms": shown,
        "dense_q1_ms": dense, "dense_q3_ms": dense, "q1_ms": shown, "q3_ms": shown,
        "speedup": dense / shown, "spread": 0.01, "roofline": None, "steps": list(steps),
        "tried": [] if ms < dense else [
            {"path": "grouped (gather)", "ms": ms, "q1_ms": ms, "q3_ms": ms}
        ],
        "cached": False, "crossover": None,
    }  # fmt: skip
    return {**found, "verdict": verdict(found)}


STEPS = [{"path": "grouped (gather)", "parts": [{"name": "gather", "ms": 0.2},
                                                {"name": "multiply", "ms": 0.3}]}]  # fmt: skip


def result(cells, failed=()):
    machine = {"cpu": "a <cpu>", "threads": 2, "torch": "2",
               "peaks": {"cpu": {"gflops": {"float32": 100.0}, "gb_per_s": 20.0}}}  # fmt: skip
    return {"machine": machine, "cells": with_crossovers(cells), "failed": list(failed)}


def test_the_page_draws_what_the_cells_allow():
    cells = [cell(layer, kept, 1.0, 0.4 + kept, steps=STEPS if kept == 0.5 else ())
             for layer in (None, "a.<b>") for kept in (0.75, 0.5, 0.25)]  # fmt: skip
    found = result(cells)
    html = latency_html(found)
    seen = Page(html).seen
    assert seen["polyline"] == 2
    assert seen["svg"] == 2 + 2
    assert "a.<b>" not in html
    assert "a.&lt;b&gt;" in html
    crossing = f"pays from {percent(round(found['cells'][0]['crossover'], 2))}"
    assert html.count(crossing) == 2 * 2, "in words and for the pointer"
    assert "group at 75 % runs 1.5x faster than dense here" in html
    assert "Whole model over batch" not in html
    assert "<script" not in html


def test_one_sparsity_has_no_line_and_several_batches_have_one():
    cells = [cell(None, 0.5, 2.0 * batch, 1.0 * batch, batch) for batch in (1, 8)]
    html = latency_html(result(cells))
    Page(html)
    assert "Time over sparsity" not in html
    assert "Whole model over batch" in html
    assert len(re.findall("<polyline", html)) == 2, "dense and pruned"
    assert "batch 8" in html


def test_a_pattern_that_is_fast_from_its_first_point_has_no_crossing():
    cells = [cell("a", kept, 1.0, kept) for kept in (0.5, 0.25)]
    html = latency_html(result(cells))
    assert 'class="ring' not in html
    assert "Time over sparsity" in html


def test_what_failed_and_a_busy_machine_are_said():
    busy = cell("a", 0.5, 1.0, 0.5)
    busy["verdict"] = verdict(busy, busy=True)
    row = {"layer": "b", "pattern": "group", "error": "it <does> not fit"}
    html = latency_html(result([busy], [row]))
    Page(html)
    assert "it &lt;does&gt; not fit" in html
    assert ">busy<" in html
    assert "2.00×" not in html
    assert Page(latency_html(result([]))).seen.get("svg") is None


def test_factors_of_a_disturbed_measurement_are_about():
    html = latency_html(result([{**cell(None, 0.5, 1.0, 0.5), "disturbed": True}]))
    assert html.count("~2.00×") == 3, "on the card, among the verdicts and among the figures"


def test_points_steps_and_limits_of_a_busy_machine_are_told_from_quiet_ones():
    cells = [cell("a", kept, 1.0, 0.4 + kept, steps=STEPS) for kept in (0.75, 0.5, 0.25)]
    html = latency_html(result(cells))
    assert ("hollow" in html.partition("<body")[2], "busy" in html.partition("<body")[2]) == (
        False, False
    )  # fmt: skip
    roof = {"operations": 5, "bytes": 5, "limit_ms": 1.0, "share": 0.6, "bound": "memory"}
    cells[0] |= {"disturbed": True, "roofline": {**roof, "disturbed": True}}
    cells[1]["steps"] = [{**row, "disturbed": True} for row in STEPS]
    found = result(cells)
    found["machine"]["peaks"]["cpu"]["disturbed"] = True
    html = latency_html(found)
    assert Page(html).seen["circle"] == 3 + 1, "points and the ring"
    assert html.count('class="s6 hollow"') == 1
    assert "machine busy</li>" in html
    assert "grouped (gather), busy" in html
    assert "~60 %" in html
    assert "measured on a busy machine" in html


def test_a_real_measurement_has_a_page_and_its_rows():
    request = Request(
        layers=("layer3*", ), patterns=("group",), sparsities=(0.5, 0.9), devices=("cpu",),
        steps=True,
    )  # fmt: skip
    events = list(measure(open_model("sample:digits-resnet"), None, request, seconds=0.005))
    assert isinstance(events[-1], Finished)
    found = events[-1].result
    html = latency_html(found)
    Page(html)
    assert "layer3.0.conv1" in html
    rows = list(csv.DictReader(io.StringIO(cells_csv(found["cells"], found["failed"]))))
    assert tuple(rows[0]) == COLUMNS
    timings = sum(1 + len(c["tried"]) + (c["ran"] != "dense") for c in found["cells"])
    assert len(rows) == timings + len(found["failed"])
    ran = [row for row in rows if row["ran"] == "yes"]
    assert [(row["verdict"], row["disturbed"] == "yes") for row in ran] == [
        (cell["verdict"]["kind"], cell["disturbed"]) for cell in found["cells"]
    ]


@pytest.mark.parametrize("log", [False, True])
def test_ticks_are_few_round_and_on_the_axis(log):
    for least, most in ((0.002, 0.9), (0.5, 1.5), (3.0, 4000.0), (1.0, 1.0)):
        axis = around("ms", [least, most], log=log)
        ticks = axis.ticks()
        assert 1 <= len(ticks) <= 7
        assert all(axis.low <= tick <= axis.high for tick in ticks)
        places = [axis.place(tick) for tick in ticks]
        assert places == sorted(places)
    assert Axis("x", 1.0, 100.0, log=True).place(10.0) == pytest.approx(0.5)
    assert Axis("x", 0.0, 4.0).place(5.0) == 1.0
    assert (percent(0.25), fold(0.5)) == ("25 %", "0.5×")


def test_plots_place_their_marks_and_escape_their_words():
    series = Series("<i>", 0, [(0.0, 1.0), (1.0, 3.0)])
    x, y = Axis("x", 0.0, 1.0), Axis("y", 0.0, 4.0)
    html = lines("<t>", [series], x, y, dense=2.0, crossovers={"<i>": 0.5})
    Page(html)
    assert "<i>" not in html.replace('<i class="', "")
    (points,) = re.findall('points="([^"]*)"', html)
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in points.split())
    assert x0 < x1
    assert y0 > y1, "up is smaller in an SVG"
    assert "pays from 0.5" in html
    other = Series("b", 1, [])
    bars = grouped_bars("t", [("g", [(series, 2.0), (other, 0.5), (other, None)])],
                        Axis("", 0.1, 10.0, log=True))  # fmt: skip
    Page(bars)
    tops = [float(top) for top in re.findall('<rect[^>]* y="([^"]*)"', bars)]
    assert len(tops) == 2
    assert tops[0] < tops[1], "faster goes up from the line, slower down"
    stacked = stacked_bars("t", [("a", [(series, 1.0), (other, 3.0)])], "ms")
    wide = [float(width) for width in re.findall('<rect[^>]* width="([^"]*)"', stacked)]
    assert wide[1] == pytest.approx(3 * wide[0], abs=0.3)
    Page(scatter("t", [series, other], x, y, dense=(0.5, 2.0)))
