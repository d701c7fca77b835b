"""The curves of a training stay with its run: in the report, in its page, through a resume."""

import json
import re

import pytest

from secateur.engine.control import Control
from secateur.engine.events import MaskChanged, Metric
from secateur.engine.models import open_model
from secateur.engine.plan import Plan
from secateur.engine.report.curves import curves
from secateur.engine.report.html import render
from secateur.engine.runs.runner import Run


def plan_of(schedule, pattern="element", epochs=4):
    rule = {"layers": "layer*", "pattern": pattern, "criterion": "magnitude"}
    if not pattern.startswith("nm"):
        rule["sparsity"] = 0.8
    return Plan.from_json(
        {"version": 1, "rules": [rule], "schedule": schedule, "training": {"epochs": epochs}}
    )


@pytest.fixture(scope="module")
def model():
    return open_model("sample:digits-resnet")


@pytest.mark.parametrize(
    ("schedule", "pattern", "own"),
    [("agp", "element", None), ("rigl", "element", None), ("gumbel", "nm:2:4", "temperature"),
     ("dst", "element", "threshold"), ("gates", "filter", "closed")],
)  # fmt: skip
def test_the_report_keeps_every_measurement(schedule, pattern, own, model):
    events = list(Run(model, plan_of(schedule, pattern)).events())
    report = events[-1].result
    measured = [row for row in report["history"] if "accuracy" in row]
    said = [event for event in events if isinstance(event, Metric) and event.step]
    assert measured == [{"step": event.step, **event.values} for event in said]
    assert [row["step"] for row in measured] == [23, 46, 69, 92]
    assert measured[-1]["accuracy"] == pytest.approx(report["accuracy"]["pruned"], abs=0.2)
    assert own is None or any(own in row for row in measured)
    # What is dropped and regrown between measurements adds up to all changes.
    changes = [event for event in events if isinstance(event, MaskChanged)]
    for name in ("dropped", "regrown"):
        total = sum(row.get(name, 0) for row in report["history"])
        assert total == sum(getattr(change, name) for change in changes)
    zeros = sum(row.get("dropped", 0) - row.get("regrown", 0) for row in report["history"])
    assert zeros == sum(layer["zeros"] for layer in report["layers"])
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_resumed_run_has_the_history_of_one_that_was_never_stopped(model, tmp_path):
    plan = plan_of({"kind": "rigl", "every": 7})
    whole = list(Run(model, plan).events())[-1].result["history"]
    control = Control()
    seen = 0
    for event in Run(model, plan, control=control, folder=tmp_path).events():
        seen += isinstance(event, MaskChanged)
        if seen == 5:  # in the middle of an epoch, with some churn behind it
            control.cancel()
    again = list(Run(model, plan, folder=tmp_path).events())
    assert any("resumed" in getattr(event, "text", "") for event in again)
    assert again[-1].result["history"] == whole
    steps = [event.step for event in again if isinstance(event, Metric) and event.step]
    assert steps == [23, 46, 69, 92]


def test_without_training_there_is_no_history(model):
    rule = {"layers": "*", "pattern": "element", "criterion": "magnitude", "sparsity": 0.5}
    report = list(Run(model, Plan.from_json({"version": 1, "rules": [rule]})).events())[-1].result
    assert report["history"] == []
    assert "<svg" not in render(report)


HISTORY = [
    {"step": 10, "dropped": 900, "regrown": 0, "loss": 2.0, "accuracy": 0.5, "sparsity": 0.25},
    {"step": 20, "dropped": 40, "regrown": 20, "loss": 1.0, "accuracy": 0.75, "sparsity": 0.5,
     "temperature": 0.5},
]  # fmt: skip


def heights(page, kind):
    (line,) = re.findall(rf'<polyline class="{kind}" points="([^"]*)"', page)
    return [float(point.split(",")[1]) for point in line.split()]


def test_the_page_draws_each_number_where_it_belongs():
    page = curves(HISTORY, 0.9)
    assert re.findall(r"<h3>([^<]*)<span>([^<]*)", page) == [
        ("Accuracy", "75.0 % · dense 90.0 %"),
        ("Loss", "1"),
        ("Sparsity", "50.0 %"),
        ("Temperature", "0.5"),
        ("Masks", "940 dropped, 20 regrown"),
    ]
    rising, falling = heights(page, "accuracy"), heights(page, "loss")
    assert rising[0] > rising[1], "up is smaller in an SVG"
    assert falling[0] < falling[1]
    low, high = heights(page, "sparsity")
    assert (low - high) == pytest.approx(0.5 * 72, abs=0.1), "from zero"
    assert page.count("<svg") == 5
    assert 'class="dense"' in page
    assert len(re.findall("<rect", page)) == 4
    assert all(float(h) >= 0 for h in re.findall(r'height="([^"]*)"', page))


def test_words_in_a_history_are_escaped_and_gaps_are_left_out():
    page = curves([{"step": 1, "<b>": 1.0, "loss": None}, {"step": 2, "dropped": 0}])
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "Loss" not in page
    assert "Masks" not in page
    assert curves([]) == ""
    flat = curves([{"step": 0, "loss": 0.0}])
    assert "nan" not in flat


def test_an_older_report_has_no_curves_and_still_renders():
    assert "Training</h2>" not in render({"name": "x"})
    assert "Training</h2>" in render({"name": "x", "history": HISTORY})
