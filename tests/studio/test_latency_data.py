"""What the latency lab makes of measured cells, without a window."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from secateur.engine.criteria import CRITERIA
from secateur.engine.errors import BadInput
from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Plan, Rule
from secateur.engine.project import Project, save_times
from secateur.studio.latency.axes import log_axis, round_axis
from secateur.studio.latency.rows import roofline_words, rows
from secateur.studio.latency.series import over_batch, over_sparsity
from secateur.studio.latency.steps_chart import stacks
from secateur.studio.latency.tradeoff_plot import missing, spots
from secateur.studio.state.cells import NEAR, Measurements, nearness
from secateur.studio.state.kept_times import KnownRuns, times_of
from secateur.studio.state.verdict_words import role, sentence, word
from secateur.studio.state.wanted import Wanted

sys.path.append(str(Path(__file__).parent))
from measured import cell, failed, stays_dense

HERE = (1, "float32", "cpu")


def rule(pattern="group", sparsity=0.5):
    return Rule("*", PATTERNS.parse(pattern), CRITERIA.parse("magnitude"), sparsity)


# Cells


def test_the_newest_cell_of_a_kind_is_kept_and_the_latest_setting_is_last():
    found = Measurements()
    found.add(
        [cell("a", "group", 0.5, 1.0, 0.6), cell("a", "group", 0.5, 1.0, 2.0, batch=8)], False
    )
    found.add([cell("a", "group", 0.5, 1.0, 0.5)], False)
    assert [(c["batch"], c["ms"]) for c in found.cells] == [(8, 2.0), (1, 0.5)]
    assert found.settings == ((8, "float32", "cpu"), HERE)


def test_a_cell_that_works_now_takes_the_place_of_its_failure():
    found = Measurements()
    found.add([failed("a", "group", 0.5, "out of memory")], False)
    assert found.of_layer("a")[0]["error"]
    found.add([cell("a", "group", 0.5, 1.0, 0.5)], False)
    assert [c.get("error") for c in found.of_layer("a")] == [None]


def test_another_run_keeps_nothing_of_the_run_before_it():
    found = Measurements()
    found.add([cell(None, "mixed", 0.4, 9.0, 5.0)], of_run=True)
    found.add([cell("a", "group", 0.5, 1.0, 0.5)], of_run=False)
    assert found.whole["ms"] == 5.0
    found.forget_run()
    assert found.whole is None
    assert [c["layer"] for c in found.cells] == ["a"]


def test_the_verdict_of_a_layer_is_of_the_plan_s_own_choice():
    found = Measurements()
    found.add(
        [cell("a", "group", 0.5, 1.0, 0.6), cell("a", "group", 0.25, 1.0, 0.3),
         cell("a", "filter", 0.5, 1.0, 0.2)], False,
    )  # fmt: skip
    assert found.verdict("a", rule("group", 0.5))["ms"] == 0.6
    assert found.verdict("a", rule("group", 0.76))["ms"] == 0.3
    assert found.verdict("a", rule("group", 0.6)) is None, "not measured there"
    assert found.verdict("a", rule("element", 0.5)) is None
    assert found.verdict("a", None)["ms"] == 0.2, "without a rule the fastest"
    found.add([cell("a", "row", 0.5, 1.0, 0.1, disturbed=True)], False)
    assert found.verdict("a", None)["ms"] == 0.2, "but not one that noise blurred"
    assert found.verdict("b", None) is None


def test_a_small_layer_is_cut_so_coarsely_that_a_verdict_may_lie_farther_away():
    found = Measurements()
    found.add([cell("a", "group", kept / 9, 1.0, kept / 10) for kept in (5, 2)], False)
    assert found.verdict("a", rule("group", 0.5)) is None
    near = nearness(layer("a", out=16, ins=9))
    assert found.verdict("a", rule("group", 0.5), near)["ms"] == 0.5
    assert found.verdict("a", rule("group", 0.75), near)["ms"] == 0.2
    assert found.verdict("a", rule("group", 0.62), near) is None
    assert nearness(layer("a", out=512, ins=512)) == nearness(None) == NEAR


@pytest.mark.parametrize(
    ("made", "said", "colour"),
    [
        (cell("a", "group", 0.4, 1.0, 0.62), "1.6×", "leaf"),
        (cell("a", "group", 0.4, 1.0, 0.62, disturbed=True), "~1.6×", "leaf"),
        (stays_dense("a", "element", 0.1, 1.0, 1.4), "dense", "dim"),
        (cell("a", "group", 0.4, 1.0, 0.62, busy=True), "busy", "amber"),
        (failed("a", "group", 0.4, "out of memory"), "failed", "rose"),
        (None, "—", "faint"),
    ],
)
def test_a_verdict_in_one_word(made, said, colour):
    assert (word(made), role(made)) == (said, colour)


def test_a_verdict_as_a_sentence():
    assert sentence(stays_dense("a", "element", 0.1, 1.0, 1.4)) == (
        "Element-wise at 90 % stays slower than dense on this machine: shown as dense."
    )
    assert sentence(failed("a", "group", 0.4, "out of memory")) == "Not measured: out of memory."


# What is wanted


def layer(path, out=64, ins=64):
    return LayerInfo(path, "Linear", f"{path}.weight", (out, ins), out * ins, "float32",
                     Gemm((out, ins)), prunable=True)  # fmt: skip


def test_wanted_says_what_the_engine_is_asked():
    wanted = Wanted(of="selected", patterns=("group",), sparsities=(0.5,), batches=(1, 8))
    params = wanted.params(("a", "b"), has_run=True)
    assert params["layers"] == ["a", "b"]
    assert params["batches"] == [1, 8]
    assert "batch" not in params
    assert params["device"] == "auto"
    assert params["dtypes"] is None
    as_run = Wanted().params(("a",), has_run=True)
    assert (as_run["layers"], as_run["patterns"], as_run["sparsities"]) == (None, None, None)
    assert Wanted().params(("a",), has_run=False)["patterns"] == ["group", "filter"]
    assert Wanted(devices=("cpu", "cuda")).params((), False)["devices"] == ["cpu", "cuda"]


def test_cells_are_counted_as_the_engine_makes_them():
    layers = [layer("a"), layer("b"), layer("c")]
    wanted = Wanted(of="all", patterns=("group", "nm:2:4"), sparsities=(0.5, 0.75), batches=(1, 8))
    # Group at two sparsities, 2:4 at its own, each for three layers and the whole model.
    assert wanted.count(layers, whole=True, pruned=None) == (2 + 1) * 4 * 2
    assert wanted.count(layers[:1], whole=False, pruned=None) == (2 + 1) * 2
    kernels = replace(wanted, patterns=("kernel:4",))
    assert kernels.count(layers, whole=True, pruned=None) == 0, "no layer has kernels"
    assert Wanted().count(layers, whole=True, pruned=2) == 3


# Pictures


def test_rows_are_of_one_setting_the_whole_model_first_and_name_each_layer_once():
    cells = [
        {**made, "run": False}
        for made in (
            cell("b", "group", 0.5, 1.0, 0.5), cell("a", "group", 0.25, 1.0, 0.3),
            cell("a", "group", 0.5, 1.0, 0.5), cell(None, "group", 0.5, 9.0, 5.0),
            cell("a", "group", 0.5, 1.0, 0.5, batch=8), failed("b", None, None, "cannot run alone"),
        )
    ]  # fmt: skip
    found = rows(cells, ["a", "b"], HERE)
    assert [(r.name, r.first) for r in found] == [
        ("Whole model", True), ("a", True), ("a", False), ("b", True), ("b", False),
    ]  # fmt: skip
    assert found[1].how == "group · 50 % kept"
    assert found[3].sentences == ("Not measured: cannot run alone.",)


def test_the_roofline_in_words():
    roof = {"operations": 1.2e8, "bytes": 2.4e6, "limit_ms": 0.3, "share": 0.6, "bound": "memory"}
    assert roofline_words(cell("a", "group", 0.5, 1.0, 0.5, roofline=roof)) == (
        "60 % of the roofline: memory allows 0.3 ms at best (120 MFLOP, 2.4 MB)."
    )
    assert roofline_words(cell("a", "group", 0.5, 1.0, 0.5)) == ""
    doubtful = cell("a", "group", 0.5, 1.0, 0.5, roofline={**roof, "disturbed": True}, run=False)
    (row,) = rows([doubtful], ["a"], HERE)
    _, limit, why = row.sentences
    assert limit.startswith("About 60 % of the roofline: memory allows 0.3 ms")
    assert why == "The machine was busy when the roofline was measured."


def test_points_of_a_busy_machine_are_known_and_do_not_set_the_level_of_dense():
    cells = [
        cell("a", "group", 0.75, 1.0, 0.9, run=False),
        cell("a", "group", 0.5, 9.0, 3.0, run=False, disturbed=True),
        cell("a", "group", 0.25, 9.0, 3.0, run=False, busy=True),
    ]
    (dense, group), _ = over_sparsity(cells, "a", HERE)
    assert [point.busy for point in group.points] == [False, True, True]
    assert ["busy" in point.tip for point in group.points] == [False, True, True]
    assert dense.level == 1.0
    (dense, _), _ = over_sparsity(cells[1:], "a", HERE)
    assert dense.level == 9.0, "nothing better is known"


def test_a_curve_goes_on_above_the_dense_line_where_dense_is_what_runs():
    cells = [
        stays_dense("a", "element", 0.5, 1.0, 1.5), stays_dense("a", "element", 0.25, 1.0, 1.1),
        cell("a", "element", 0.1, 1.0, 0.8, "CSR"), cell("b", "group", 0.5, 1.0, 0.5),
    ]  # fmt: skip
    curves, crossings = over_sparsity(cells, "a", HERE)
    assert [curve.name for curve in curves] == ["dense", "element"]
    assert [(p.x, p.ms) for p in curves[1].points] == [(0.5, 1.5), (0.75, 1.1), (0.9, 0.8)]
    assert [p.ms for p in curves[0].points] == [1.0, 1.0, 1.0]
    (crossing,) = crossings
    assert 0.75 < crossing.x < 0.9
    assert over_sparsity(cells, "c", HERE) == ([], [])
    of_run = {**cell("a", "element", 0.3, 1.0, 0.2), "run": True}
    assert over_sparsity([*cells, of_run], "a", HERE) == (curves, crossings), "another model's"


def test_batches_make_a_curve_only_where_there_are_several():
    cells = [cell("a", "group", 0.5, 1.0 * n, 0.5 * n, batch=n) for n in (8, 1)]
    cells.append(cell("a", "filter", 0.5, 1.0, 0.5))
    curves = over_batch(cells, "a", HERE)
    assert [curve.name for curve in curves] == ["dense", "group 50 %"]
    assert [(p.x, p.ms) for p in curves[1].points] == [(1, 0.5), (8, 4.0)]
    assert over_batch(cells[1:], "a", HERE) == []


def test_steps_are_stacked_path_by_path():
    steps = [
        {"path": "dense", "parts": [{"name": "multiply", "ms": 1.0}]},
        {"path": "grouped (gather)",
         "parts": [{"name": "gather", "ms": 0.1}, {"name": "multiply", "ms": 0.5}]},
    ]  # fmt: skip
    found = stacks([cell("a", "group", 0.5, 1.0, 0.6, steps=steps)], "a", HERE)
    assert [stack.group for stack in found] == ["group · 50 % kept", ""]
    assert found[1].total == pytest.approx(0.6)
    assert found[1].tip.endswith("together 0.6 ms")


@pytest.mark.parametrize(("low", "high"), [(0, 0.013), (0, 7.3), (91.2, 99.4), (3, 3)])
def test_ticks_are_round_and_hold_the_values(low, high):
    axis = round_axis(low, high, "ms")
    values = [value for value, _ in axis.ticks]
    assert axis.low <= low <= high <= axis.high
    assert 2 <= len(values) <= 9
    assert axis.share(axis.low) == 0
    assert axis.share(axis.high) == pytest.approx(1)


def test_ticks_of_factors():
    axis = log_axis(0.3, 40, "ms")
    assert [text for _, text in axis.ticks] == ["0.5", "1", "2", "5", "10", "20"]
    assert 0 < axis.share(0.3) < axis.share(40) < 1


# Runs


def run_on_disk(folder, accuracy=0.98, model="sample:x"):
    Project(folder, model, Plan()).save()
    report = {
        "model": model, "name": "x", "layers": [{"path": "a", "pattern": "group", "requested": 0.5,
                                                 "achieved": 0.5, "weights": 10, "zeros": 5}],
        "sparsity": 0.5, "params": 10, "nonzeros": 5, "bytes": {"dense": 40, "compressed": 20},
        "accuracy": {"dense": 0.99 if accuracy else None, "pruned": accuracy},
    }  # fmt: skip
    (folder / "report.json").write_text(json.dumps(report))


def test_times_stay_with_their_run_and_its_page(tmp_path):
    run_on_disk(tmp_path / "x-1")
    machine = {"cpu": "C", "threads": 2, "cuda": None}
    whole = cell(None, "group", 0.5, 9.0, 5.0)
    report = save_times(tmp_path / "x-1", {"machine": machine, "cells": [whole]})
    assert Project.open(tmp_path / "x-1").report() == report
    assert "5" in (tmp_path / "x-1" / "report.html").read_text()
    assert times_of(report, {"machine": machine}) == [whole]
    assert times_of(report, {"machine": {**machine, "threads": 8}}) == [], "another machine"
    assert times_of(None, {"machine": machine}) == []
    Project(tmp_path / "plan", "sample:x", Plan()).save()
    with pytest.raises(BadInput, match="prune first"):
        save_times(tmp_path / "plan", {})


def test_runs_of_a_model_are_found_and_read_again_once_they_changed(tmp_path):
    for name, accuracy in (("x-1", 0.98), ("x-2", None), ("x-3", 0.97)):
        run_on_disk(tmp_path / name, accuracy)
    run_on_disk(tmp_path / "other-1", model="sample:y")
    (tmp_path / "junk").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "report.json").write_text("{")
    known = KnownRuns()
    folders = sorted(tmp_path.iterdir())
    found = known.of("sample:x", folders)
    assert [(run.folder.name, run.accuracy) for run in found] == [
        ("x-1", 0.98), ("x-2", None), ("x-3", 0.97),
    ]  # fmt: skip
    assert spots(found, HERE) == []
    assert missing(found, HERE) == (
        "2 runs not measured at batch 1 · float32 · CPU: open it and press Measure; "
        "1 run without accuracy: the plan names no data"
    )
    times = {"machine": {}, "cells": [cell(None, "group", 0.5, 9.0, 5.0)]}
    save_times(tmp_path / "x-1", times)
    found = known.of("sample:x", folders)
    assert [(s.name, s.ms, s.accuracy) for s in spots(found, HERE)] == [
        ("dense", 9.0, 0.99), ("x-1", 5.0, 0.98),
    ]  # fmt: skip
    assert spots(found, (8, "float32", "cpu")) == []
    assert "busy" not in spots(found, HERE)[1].tip
    (run,) = (one for one in found if one.whole)
    busy = replace(run, whole=({**run.whole[0], "disturbed": True},))
    assert "The machine was busy" in spots([busy], HERE)[1].tip
