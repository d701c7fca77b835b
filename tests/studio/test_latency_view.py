"""The latency lab by real clicks: pictures, pairs, what to measure, exports."""

import csv
import sys
from pathlib import Path

import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QPoint, Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QApplication,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QToolButton,
)

from secateur.engine import events
from secateur.engine.patterns import PATTERNS
from secateur.studio.canvas import Canvas
from secateur.studio.latency.ask_panel import AskPanel
from secateur.studio.latency.lines_plot import curve_colour
from secateur.studio.look import theme
from secateur.studio.state.cells import key
from secateur.studio.state.kept_times import KnownRun

sys.path.append(str(Path(__file__).parent))
from dialogs import answer_file, pick_from_menu
from measured import cell, failed, stays_dense
from recorded import CONV, LINEAR, recorded_session

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def canvas(qapp, tmp_path):
    """A canvas of 800 x 700 with the Latency tab in front, on a recorded engine."""
    theme.apply(qapp, "dark")
    session = recorded_session(tmp_path / "home", {"conv": CONV, "fc": LINEAR})
    session.notices = []
    session.notice.connect(lambda text, level: session.notices.append((level, text)))
    made = Canvas(session)
    made.session = session
    made.resize(800, 700)
    made.show()
    made.show_tab("Latency")
    yield made
    made.close()
    made.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    session.close()


CELLS = (
    cell("conv", "group", 0.5, 0.5, 0.3, tried=[{"path": "CSR", "ms": 2.0, "q1_ms": 1.9,
                                                  "q3_ms": 2.1}]),
    stays_dense("conv", "group", 0.9, 0.5, 0.55, "grouped (gather)"),
    cell("conv", "group", 0.25, 0.5, 0.2, cached=True),
    stays_dense("fc", "element", 0.5, 0.02, 0.09),
    cell("fc", "element", 0.1, 0.02, 0.01, busy=True),
    failed("fc", "group", 0.5, "out of memory: take a smaller batch"),
    cell(None, "group", 0.5, 10.0, 4.0, "grouped"),
)  # fmt: skip


def give(canvas, cells=CELLS, of_run=False):
    canvas.session.measuring.found.add(cells, of_run)
    canvas.session.run_changed.emit()


def child(canvas, kind, name):
    (found,) = canvas.findChildren(kind, name)
    return found


def click(widget, place=None):
    QTest.mouseClick(widget, LEFT, Qt.KeyboardModifier.NoModifier, place or widget.rect().center())


def mode(canvas, number):
    click(child(canvas, QToolButton, f"latency_mode_{number}"))


def jobs(canvas):
    return [params for job, params in canvas.session.client.jobs if job == "measure"]


def colours(widget):
    picture = widget.grab().toImage()
    return {
        picture.pixelColor(x, y).name()
        for x in range(60, picture.width(), 3)
        for y in range(0, picture.height(), 2)
    }


# Layers


def test_without_measurements_a_click_starts_one(canvas):
    view = canvas.latency
    assert view.button.isVisible()
    click(view.button)
    assert len(jobs(canvas)) == 1
    assert not view.button.isEnabled()
    assert "under way" in view.button.toolTip()


def test_bars_appear_while_layers_finish(canvas, qtbot):
    click(canvas.latency.button)
    jobs_ = canvas.session._jobs
    jobs_._started(1)
    for number, made in enumerate(CELLS[:2]):
        jobs_._event(1, events.LayerDone("conv", made))
        qtbot.waitUntil(lambda n=number: len(canvas.latency.layers.rows) == n + 1, timeout=2000)
    jobs_._event(1, events.Finished({"machine": {}, "cells": list(CELLS[:2]), "failed": [CELLS[5]],
                                     "table": None}))  # fmt: skip
    assert [row.kind for row in canvas.latency.layers.rows] == ["slower", "faster", "failed"]


@pytest.mark.parametrize("name", ["dark", "light"])
def test_rows_say_what_is_faster_what_stays_dense_busy_and_failed(canvas, qapp, name):
    theme.apply(qapp, name)
    give(canvas)
    chart = canvas.latency.layers
    assert [(row.name, row.headline) for row in chart.rows] == [
        ("Whole model", "2.50×"), ("conv", "stays dense"), ("conv", "1.67×"), ("conv", "2.50×"),
        ("fc", "stays dense"), ("fc", "machine busy"), ("fc", "out of memory"),
    ]  # fmt: skip
    look = theme.current()
    assert {look.leaf, look.amber, look.faint} <= colours(chart)


def test_a_click_opens_a_row_to_every_candidate_and_selects_its_layer(canvas):
    give(canvas)
    chart = canvas.latency.layers
    number = next(n for n, row in enumerate(chart.rows) if row.headline == "1.67×")
    before = chart.place(number).height()
    canvas.session.select(["fc"])
    click(chart, chart.place(number).center().toPoint())
    assert canvas.session.current == "conv"
    assert chart.place(number).height() > before + 2 * 19
    assert chart.rows[number].sentences[0] == "Group at 50 % runs 1.7x faster than dense here."
    click(chart, chart.place(number).topLeft().toPoint() + QPoint(40, 10))
    assert chart.place(number).height() == before


def test_keys_walk_and_open_rows(canvas):
    give(canvas)
    chart = canvas.latency.layers
    chart.setFocus()
    QTest.keyClick(chart, Qt.Key.Key_Down)
    QTest.keyClick(chart, Qt.Key.Key_Down)
    QTest.keyClick(chart, Qt.Key.Key_Space)
    assert chart.opened == {chart.rows[2].key}


def test_a_pair_that_is_asked_for_is_opened_in_sight(canvas, qtbot):
    many = [cell(f"l{n}", "group", 0.5, 1.0, 0.5) for n in range(60)]
    give(canvas, (*many, *CELLS, cell("conv", "group", 0.5, 4.0, 3.0, batch=8)))
    canvas.show_tab("Weights")
    wanted = canvas.session.measuring.found.of_layer("conv")[0]
    canvas.session.measuring.show_pair(wanted)
    view = canvas.latency
    assert canvas.tabs.tabText(canvas.tabs.currentIndex()) == "Latency"
    assert view.setting == (1, "float32", "cpu"), "not the latest, but the pair's own"
    assert view.layers.opened == {key(wanted)}
    number = next(n for n, row in enumerate(view.layers.rows) if row.key == key(wanted))

    def seen():
        place = view.layers.place(number)
        top = view.layers.mapTo(view, place.topLeft().toPoint()).y()
        return top >= 0 and top + place.height() <= view.height()

    qtbot.waitUntil(seen, timeout=2000)


def test_settings_are_not_mixed_and_can_be_chosen(canvas, qtbot):
    give(canvas, (CELLS[0], cell("conv", "group", 0.5, 4.0, 3.0, batch=8)))
    chart, chip = canvas.latency.layers, child(canvas, QToolButton, "setting_chip")
    assert [row.cell["batch"] for row in chart.rows] == [8]
    assert chip.text() == "batch 8"

    pick_from_menu("batch 1 ")
    click(chip)
    assert [row.cell["batch"] for row in chart.rows] == [1]


# Plots


def test_over_sparsity_a_click_on_a_point_shows_its_pair(canvas):
    give(canvas)
    canvas.session.select(["conv"])
    mode(canvas, 3)
    plot = canvas.latency.sparsity
    assert [series.name for series in plot.series] == ["dense", "group"]
    assert 0.1 < plot.crossings[0].x < 0.5
    point = plot.series[1].points[1]
    click(plot, plot.place_of(point).toPoint())
    assert canvas.latency.mode == "Layers"
    assert canvas.latency.layers.opened == {key(canvas.session.measuring.found.of_layer("conv")[0])}


def test_points_of_a_busy_machine_are_hollow(canvas):
    give(canvas)
    canvas.session.select(["conv"])
    mode(canvas, 3)
    plot = canvas.latency.sparsity
    leaf = curve_colour(theme.current(), 0).name()

    def middle(number):
        place = plot.place_of(plot.series[1].points[number]).toPoint()
        return plot.grab().toImage().pixelColor(place).name()

    # The middle of the three was lost to dense, and its whisker is hidden by its mark.
    assert [middle(number) for number in range(3)] == [leaf] * 3
    give(canvas, [{**CELLS[0], "disturbed": True}])
    assert [middle(number) for number in range(3)] == [leaf, theme.current().bg, leaf]


def test_the_whole_model_over_sparsity_is_one_chip_away(canvas):
    give(canvas, (*CELLS, cell(None, "group", 0.25, 10.0, 2.0, "grouped")))
    mode(canvas, 3)
    click(child(canvas, QToolButton, "whole_chip"))
    assert [p.ms for p in canvas.latency.sparsity.series[1].points] == [4.0, 2.0]
    click(child(canvas, QPushButton, "latency_measure_more"))
    assert jobs(canvas)[-1]["layers"] is None


def test_steps_are_measured_on_request_for_the_selected_layer(canvas):
    canvas.session.select(["conv"])
    canvas.session.set_rule(["conv"], _rule("block:4x4", 0.6))
    mode(canvas, 2)
    assert child(canvas, QLabel, "latency_head").text() == "No steps of conv are measured yet"
    click(canvas.latency.button)
    asked = jobs(canvas)[-1]
    assert (asked["layers"], asked["patterns"], asked["steps"]) == (["conv"], ["block:4x4"], True)
    steps = [{"path": "grouped (gather)", "parts": [{"name": "gather", "ms": 0.1},
                                                    {"name": "multiply", "ms": 0.4}]}]  # fmt: skip
    give(canvas, [cell("conv", "group", 0.5, 1.0, 0.5, steps=steps)])
    look = theme.current()
    assert {look.blue, look.leaf} <= colours(canvas.latency.steps)
    assert [stack.words for stack in canvas.latency.steps.stacks] == ["0.5 ms"]
    steps[0]["disturbed"] = True
    give(canvas, [cell("conv", "group", 0.5, 1.0, 0.5, steps=steps)])
    assert [stack.words for stack in canvas.latency.steps.stacks] == ["0.5 ms · machine busy"]


def test_batches_are_measured_for_the_plan_s_choice(canvas):
    canvas.session.select(["conv"])
    canvas.session.set_rule(["conv"], _rule("group", 0.6))
    mode(canvas, 4)
    click(canvas.latency.button)
    asked = jobs(canvas)[-1]
    assert asked["batches"] == [1, 8, 32, 64]
    assert asked["sparsities"] == [0.6]
    give(canvas, [cell("conv", "group", 0.4, 1.0 * n, 0.5 * n, batch=n) for n in (1, 8)])
    assert len(canvas.latency.batch.series) == 2


def test_a_layer_without_a_matrix_can_not_be_measured_alone(canvas):
    canvas.session.select(["bn"])
    mode(canvas, 2)
    assert not canvas.latency.button.isEnabled()
    assert child(canvas, QLabel, "latency_hint").text() == "Select a layer that can be pruned."


def test_a_click_on_a_run_opens_it(canvas, tmp_path, monkeypatch):
    mode(canvas, 5)
    text = child(canvas, QLabel, "latency_hint").text()
    assert text.startswith("Every run of this model is a point here once")
    whole = {**cell(None, "group", 0.4, 9.0, 5.0), "run": True}
    runs = [KnownRun(Path("/runs/x-1"), "group", 0.99, 0.98, 0.6, (whole,))]
    monkeypatch.setattr(canvas.latency._known, "of", lambda *_: runs)
    opened = []
    monkeypatch.setattr(canvas.session, "open", opened.append)
    give(canvas, [whole])
    plot = canvas.latency.tradeoff
    assert [spot.name for spot in plot.spots] == ["dense", "x-1"]
    export(canvas, monkeypatch, "csv", tmp_path / "runs.csv")
    with (tmp_path / "runs.csv").open(newline="") as file:
        assert [(row["run"], row["accuracy"]) for row in csv.DictReader(file)] == [
            ("dense", "0.99"), ("x-1", "0.98"),
        ]  # fmt: skip
    click(plot, plot.place_of(plot.spots[1]).toPoint())
    assert opened == [str(Path("/runs/x-1"))]


def test_digits_choose_the_picture(canvas):
    canvas.latency.setFocus()
    for number, name in enumerate(("Layers", "Steps", "Sparsity", "Batch", "Trade-off"), 1):
        child(canvas, QToolButton, "latency_mode_1").setFocus()
        QTest.keyClick(QApplication.focusWidget(), Qt.Key(ord(str(number))))
        assert canvas.latency.mode == name


# What to measure


@pytest.fixture
def panel(canvas):
    click(child(canvas, QToolButton, "ask_chip"))
    (found,) = (w for w in QApplication.topLevelWidgets() if isinstance(w, AskPanel))
    assert found.isVisible()
    yield found
    found.close()


def test_the_panel_says_how_many_and_starts_what_is_chosen(canvas, panel):
    words = panel.findChild(QLabel, "ask_count")
    # Two patterns at three sparsities for two layers and the whole model.
    assert words.text().startswith("18 measurements, about 11 s")
    click(panel.findChild(QToolButton, "ask_pattern_block_4x4"))
    click(panel.findChild(QToolButton, "ask_batch_8"))
    field = panel.findChild(QLineEdit, "ask_sparsities")
    field.selectAll()
    QTest.keyClicks(field, "60")
    assert words.text().startswith("18 measurements")
    click(panel.findChild(QPushButton, "ask_go"))
    assert not panel.isVisible()
    asked = jobs(canvas)[-1]
    assert asked["patterns"] == ["block:4x4", "group", "filter"]
    assert asked["sparsities"] == [0.6]
    assert asked["batches"] == [1, 8]
    assert asked["layers"] is None


def test_the_panel_says_why_nothing_can_be_measured_so(canvas, panel):
    field, go = panel.findChild(QLineEdit, "ask_sparsities"), panel.findChild(QPushButton, "ask_go")
    words = panel.findChild(QLabel, "ask_count")
    field.selectAll()
    QTest.keyClicks(field, "120")
    assert words.text().startswith("Write sparsities from 0 to below 100")
    assert not go.isEnabled()
    assert field.property("invalid") == "true"
    field.selectAll()
    QTest.keyClicks(field, "50, 80 %")
    assert go.isEnabled()
    for name in ("group", "filter"):
        click(panel.findChild(QToolButton, f"ask_pattern_{name}"))
    assert words.text() == "Choose at least one pattern."
    assert not go.isEnabled()


def test_selected_layers_are_the_selected_ones_of_the_tree(canvas, panel):
    click(panel.findChild(QToolButton, "ask_of_selected"))
    canvas.session.select(["fc"])
    click(panel.findChild(QPushButton, "ask_go"))
    assert jobs(canvas)[-1]["layers"] == ["fc"]


def test_a_latency_table_goes_into_the_file_that_was_named(canvas, panel, tmp_path, monkeypatch):
    target = tmp_path / "table.json"
    answer_file(monkeypatch, target)
    click(panel.findChild(QPushButton, "ask_table"))
    asked = jobs(canvas)[-1]
    assert asked["save"] == str(target)
    assert asked["layers"] is None
    jobs_ = canvas.session._jobs
    jobs_._started(1)
    jobs_._event(1, events.Finished({"machine": {}, "cells": [CELLS[0]], "failed": [],
                                     "table": str(target)}))  # fmt: skip
    assert ("info", f"Saved the latency table in {target}") in canvas.session.notices


# Exports


def export(canvas, monkeypatch, name, path):
    answer_file(monkeypatch, path)
    menu = child(canvas, QMenu, "latency_export_menu")
    menu.aboutToShow.emit()
    (action,) = (a for a in menu.actions() if a.objectName() == f"latency_export_{name}")
    assert action.isEnabled()
    action.trigger()


def test_pictures_are_exported_whole_as_png_and_svg(canvas, tmp_path, monkeypatch):
    many = [cell(f"l{n}", "group", 0.5, 1.0, 0.5) for n in range(60)]
    give(canvas, many)
    export(canvas, monkeypatch, "png", tmp_path / "bars.png")
    size, image = canvas.latency.layers.picture_size(), QImage(str(tmp_path / "bars.png"))
    assert size.height() > canvas.height()
    assert (image.width(), image.height()) == (2 * size.width(), 2 * size.height())
    canvas.session.select(["l0"])
    export(canvas, monkeypatch, "svg", tmp_path / "bars.svg")
    text = (tmp_path / "bars.svg").read_text()
    assert text.count("<text") > 120, "all rows, also those out of sight"
    assert ">l59<" in text
    for level, said in canvas.session.notices:
        assert level == "info", said


def test_the_table_is_exported_as_csv(canvas, tmp_path, monkeypatch):
    give(canvas)
    export(canvas, monkeypatch, "csv", tmp_path / "cells.csv")
    with (tmp_path / "cells.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert {row["layer"] for row in table} == {"", "conv", "fc"}
    ran = [float(row["ms"]) for row in table if row["ran"] == "yes"]
    assert sorted(ran) == sorted(made["ms"] for made in CELLS if "ms" in made)
    assert [row["error"] for row in table if row["error"]] == [CELLS[5]["error"]]


def test_the_report_opens_by_itself(canvas, tmp_path, monkeypatch):
    give(canvas)
    export(canvas, monkeypatch, "html", tmp_path / "latency.html")
    page = (tmp_path / "latency.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "http" not in page.replace("http://www.w3.org", ""), "it loads nothing"
    assert "out of memory" in page


def test_a_file_that_can_not_be_written_leaves_the_old_one(canvas, tmp_path, monkeypatch):
    from secateur.studio.latency import exporting

    give(canvas)
    target = tmp_path / "bars.svg"
    target.write_text("old")

    def broken(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting.Path, "write_bytes", broken)
    export(canvas, monkeypatch, "svg", target)
    assert target.read_text() == "old"
    assert list(tmp_path.glob(".bars*")) == []
    (level, text) = canvas.session.notices[-1]
    assert level == "error"
    assert text.startswith("Not exported: ")
    assert "disk is full" in text


def test_nothing_measured_nothing_to_export(canvas):
    menu = child(canvas, QMenu, "latency_export_menu")
    menu.aboutToShow.emit()
    assert not any(action.isEnabled() for action in menu.actions())


def _rule(pattern, sparsity):
    from secateur.engine.criteria import CRITERIA
    from secateur.engine.plan import Rule

    return Rule("*", PATTERNS.parse(pattern), CRITERIA.parse("magnitude"), sparsity)
