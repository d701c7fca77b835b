"""The latency lab on the real engine, in the real window."""

import json

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel, QPushButton, QToolButton

from secateur.engine.criteria import CRITERIA
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Plan, Rule
from secateur.studio.layers.layer_model import NAME, VERDICT
from secateur.studio.state.cells import key

LEFT = Qt.MouseButton.LeftButton


def group(sparsity=0.5):
    return Rule("*", PATTERNS.parse("group"), CRITERIA.parse("magnitude"), sparsity)


def child(window, kind, name):
    (found,) = window.findChildren(kind, name)
    return found


def quiet(session, qtbot):
    qtbot.waitUntil(lambda: not session.busy, timeout=90_000)


def click_verdict(tree, path):
    index = tree.filter.mapFromSource(tree.layers.index_of(path)).siblingAtColumn(VERDICT)
    tree.scrollTo(index)
    QTest.mouseClick(tree.viewport(), LEFT, Qt.KeyboardModifier.NoModifier,
                     tree.visualRect(index).center())  # fmt: skip
    return index


def test_a_verdict_in_the_tree_leads_to_the_pair_that_was_measured(window, opened, qtbot):
    tree, path = window.layers.tree, opened.info.prunable[2].path
    assert tree.isColumnHidden(VERDICT)
    opened.select([path])
    opened.set_rule([path], group())
    opened.measuring.want(
        opened.measuring.wanted.__class__(of="selected", patterns=("group",), sparsities=(0.5,))
    )
    QTest.mouseClick(child(window, QPushButton, "measure_button"), LEFT)
    qtbot.waitUntil(lambda: bool(opened.measuring.found.cells), timeout=60_000)
    quiet(opened, qtbot)
    (cell,) = opened.measuring.found.of_layer(path)
    assert cell["q1_ms"] <= cell["ms"] <= cell["q3_ms"]
    assert not tree.isColumnHidden(VERDICT)
    index = click_verdict(tree, path)
    said = index.data()
    assert said.lstrip("~") in ("dense", "busy", f"{cell['speedup']:.1f}×")
    assert cell["verdict"]["words"][1:] in index.data(Qt.ItemDataRole.ToolTipRole).replace(
        "\n", " "
    )
    view = window.canvas.latency
    assert view.isVisible()
    assert view.layers.opened == {key(cell)}
    assert index.siblingAtColumn(NAME).data() in path


def test_steps_and_sparsities_of_a_layer_come_from_the_engine(window, opened, qtbot):
    path = max(opened.info.prunable, key=lambda layer: layer.params).path
    opened.select([path])
    window.canvas.show_tab("Latency")
    view = window.canvas.latency
    QTest.mouseClick(child(window, QToolButton, "latency_mode_3"), LEFT)
    assert child(window, QLabel, "latency_head").text() == f"No times of {path} over sparsity yet"
    QTest.mouseClick(view.button, LEFT)
    qtbot.waitUntil(lambda: view.has_picture, timeout=60_000)
    quiet(opened, qtbot)
    dense, *curves = view.sparsity.series
    assert {"group", "filter"} >= {curve.name for curve in curves}
    assert len(dense.points) == 10
    QTest.mouseClick(child(window, QToolButton, "latency_mode_2"), LEFT)
    QTest.mouseClick(view.button, LEFT)
    qtbot.waitUntil(lambda: view.has_picture, timeout=60_000)
    quiet(opened, qtbot)
    assert all(stack.total > 0 for stack in view.steps.stacks)
    assert {"multiply"} <= {name for stack in view.steps.stacks for name, _ in stack.parts}


def test_cancel_keeps_what_was_measured(window, opened, qtbot):
    window.canvas.show_tab("Latency")
    QTest.mouseClick(window.canvas.latency.button, LEFT)
    qtbot.waitUntil(lambda: len(opened.measuring.found.cells) >= 2, timeout=60_000)
    QTest.mouseClick(child(window, QPushButton, "run_cancel"), LEFT)
    quiet(opened, qtbot)
    assert opened.run.state == "cancelled"
    assert len(window.canvas.latency.layers.rows) >= 2


def test_times_stay_with_the_run_and_make_it_a_point(window, opened, qtbot):
    path = opened.info.prunable[2].path
    opened.set_plan(Plan.from_json({**opened.plan.to_json(), "training": {
        "data": "sample:digits", "epochs": 0}}), "data")  # fmt: skip
    opened.set_rule([path], group())
    opened.prune()
    quiet(opened, qtbot)
    assert opened.run.state == "done", opened.run.error
    window.canvas.show_tab("Latency")
    view = window.canvas.latency
    opened.measure()
    quiet(opened, qtbot)
    kept = json.loads((opened.project / "report.json").read_text())["measured"]
    assert [cell["layer"] for cell in kept["cells"]] == [path, None]
    QTest.mouseClick(child(window, QToolButton, "latency_mode_5"), LEFT)
    assert [spot.name for spot in view.tradeoff.spots] == ["dense", opened.project.name]
    # Opened again, the run has its times, as they are of this machine.
    opened.open(str(opened.project))
    qtbot.waitUntil(lambda: bool(opened.busy), timeout=5_000)
    quiet(opened, qtbot)
    assert opened.measuring.found.whole["ms"] == kept["cells"][1]["ms"]
