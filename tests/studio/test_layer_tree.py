import time

import pytest
from PySide6.QtCore import QModelIndex, QPoint, Qt
from PySide6.QtTest import QAbstractItemModelTester, QTest

from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo, ModelInfo
from secateur.engine.plan import Plan
from secateur.studio.layers.layer_groups import group
from secateur.studio.layers.layer_model import (
    DENSITY_ROLE,
    PATH_ROLE,
    PATTERN,
    PLANNED_ROLE,
    LayerModel,
)
from secateur.studio.layers.layer_panel import LayerPanel
from secateur.studio.state.run_state import RunState
from secateur.studio.state.session import Session

RESNET = ["conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1", "layer1.0.conv2", "layer1.1.conv1",
          "layer1.1.conv2", "fc"]  # fmt: skip


def shown(node, depth=0):
    lines = [] if depth == 0 else ["  " * (depth - 1) + node.label]
    return lines + [line for child in node.children for line in shown(child, depth + 1)]


def test_small_blocks_fold_into_their_stage():
    assert shown(group(RESNET)) == [
        "conv1", "bn1", "layer1", "  0.conv1", "  0.bn1", "  0.conv2", "  1.conv1", "  1.conv2",
        "fc",
    ]  # fmt: skip


def test_chains_join_and_large_blocks_stay_groups():
    inner = [f"part{n}.w" for n in range(4)] + [f"other.{n}" for n in range(4)]
    paths = [f"bert.encoder.layer.{n}.{name}" for n in range(2) for name in inner]
    tree = group([*paths, "pooler.dense"])
    assert [child.label for child in tree.children] == ["bert.encoder.layer", "pooler.dense"]
    assert [child.label for child in tree.children[0].children] == ["0", "1"]
    assert [c.label for c in tree.children[0].children[0].children][:2] == ["part0.w", "part1.w"]
    assert tree.children[0].layers() == list(range(len(paths)))


def layers(paths):
    for path in paths:
        norm = "bn" in path
        shape = (8,) if norm else (8, 4, 3, 3)
        yield LayerInfo(
            path=path, kind="BatchNorm2d" if norm else "Conv2d", weight=f"{path}.weight",
            shape=shape, params=8 if norm else 288, dtype="float32",
            gemm=None if norm else Gemm(shape, (3, 3)), prunable=not norm,
            reason="a norm has no matrix" if norm else None,
        )  # fmt: skip


@pytest.fixture
def session(tmp_path, qapp):
    made = Session(home=tmp_path)
    yield made
    made.undo.blockSignals(True)


def give(session, paths):
    session.info = ModelInfo("test:model", "model", tuple(layers(paths)), 1000, 4000)
    session.address = "test:model"
    session.model_changed.emit()


@pytest.fixture
def panel(session, qtbot):
    made = LayerPanel(session)
    qtbot.addWidget(made)
    made.resize(380, 700)
    made.show()
    give(session, RESNET)
    return made


def rows(tree, parent=None):
    parent = parent or QModelIndex()
    found = []
    for row in range(tree.filter.rowCount(parent)):
        index = tree.filter.index(row, 0, parent)
        found.append(index.data())
        found += rows(tree, index)
    return found


def test_the_model_keeps_qts_rules(session):
    model = LayerModel(session)
    tester = QAbstractItemModelTester(model, QAbstractItemModelTester.FailureReportingMode.Warning)
    give(session, RESNET)
    model.reload()
    assert model.index_of("layer1.1.conv2").data(PATH_ROLE) == "layer1.1.conv2"
    assert not model.index_of("nowhere").isValid()
    assert tester.model() is model


def test_layers_that_cannot_be_pruned_are_shown_on_demand_with_their_reason(panel):
    assert "bn1" not in rows(panel.tree)
    assert panel.heading._count.text() == "6 of 8 prunable"
    QTest.mouseClick(panel.heading._count, Qt.MouseButton.LeftButton)
    assert "bn1" in rows(panel.tree)
    index = panel.tree.layers.index_of("bn1")
    assert "a norm has no matrix" in index.data(Qt.ItemDataRole.ToolTipRole)
    assert index.data(DENSITY_ROLE) is None


def test_every_word_of_the_filter_must_fit_name_type_or_pattern(panel, session):
    session.plan = Plan.from_json({"rules": [{"layers": "*.1.*", "pattern": "nm:2:4"}]})
    session.plan_changed.emit()
    for text, wanted in (
        ("conv2", ["layer1", "0.conv2", "1.conv2"]),
        ("2:4", ["layer1", "1.conv1", "1.conv2"]),
        ("3×3 fc", ["fc"]),
        ("LAYER1 0", ["layer1", "0.conv1", "0.conv2"]),
    ):
        panel.filter.clear()
        QTest.keyClicks(panel.filter, text)
        assert rows(panel.tree) == wanted, text
    QTest.keyClicks(panel.filter, " nothing like it")
    assert panel._stack.currentIndex() == 2
    panel.filter.clear()
    assert len(rows(panel.tree)) == 7


def place(tree, path):
    return tree.visualRect(tree.filter.mapFromSource(tree.layers.index_of(path))).center()


def test_clicks_select_layers_and_groups(panel, session):
    tree, view = panel.tree, panel.tree.viewport()
    left = Qt.MouseButton.LeftButton
    QTest.mouseClick(view, left, Qt.KeyboardModifier.NoModifier, place(tree, "conv1"))
    assert (session.selection, session.current) == (("conv1",), "conv1")
    QTest.mouseClick(view, left, Qt.KeyboardModifier.ControlModifier, place(tree, "fc"))
    assert (session.selection, session.current) == (("conv1", "fc"), "fc")
    head = tree.visualRect(tree.filter.index(1, 0)).center()
    QTest.mouseClick(view, left, Qt.KeyboardModifier.NoModifier, head)
    assert session.selection == tuple(p for p in RESNET if "layer1" in p and "bn" not in p)
    QTest.keyClick(tree, Qt.Key.Key_Down)
    assert session.selection == ("layer1.0.conv2",)  # the one below the group's first


def test_the_tree_follows_the_session(panel, session):
    session.select(["layer1.0.conv2", "fc"], "fc")
    chosen = {index.data(PATH_ROLE) for index in panel.tree.selectionModel().selectedRows()}
    assert chosen == {"layer1.0.conv2", "fc"}
    assert session.selection == ("layer1.0.conv2", "fc")
    assert panel.tree.currentIndex().data(PATH_ROLE) == "fc"


def test_figures_come_from_the_plan_and_then_from_the_run(panel, session):
    index = panel.tree.layers.index_of("fc")
    assert (index.data(DENSITY_ROLE), index.data(PLANNED_ROLE)) == (1.0, None)
    session.set_rule(["fc"], Plan.from_json(
        {"rules": [{"layers": "*", "pattern": "group", "sparsity": 0.6}]}).rules[0])  # fmt: skip
    assert index.data(PLANNED_ROLE) == pytest.approx(0.4)
    assert index.siblingAtColumn(PATTERN).data() == "group 60 %"
    session.report = {
        "layers": [{"path": "fc", "achieved": 0.625}], "sparsity": 0.1,
        "bytes": {"dense": 4000, "compressed": 3000},
    }  # fmt: skip
    session.masks_changed.emit()
    assert index.data(DENSITY_ROLE) == pytest.approx(0.375)


def test_two_thousand_layers_stay_quick(panel, session):
    give(session, [f"stage{n // 100}.block{n // 10 % 10}.conv{n % 10}" for n in range(2000)])
    panel.tree.grab()
    start = time.perf_counter()
    for step in range(10):
        session.set_sparsity_live([layer.path for layer in session.info.layers], step / 20 + 0.1)
        panel.tree.viewport().repaint()
    each = (time.perf_counter() - start) / 10
    print(f"plan change over 2,000 layers, repainted: {each * 1000:.0f} ms")
    assert panel.tree.visualRect(panel.tree.filter.index(0, 0)).height() == 27
    QTest.mouseClick(panel.tree.viewport(), Qt.MouseButton.LeftButton,
                     Qt.KeyboardModifier.NoModifier, QPoint(80, 40))  # fmt: skip
    assert len(session.selection) >= 1


def test_bars_of_a_failed_run_go_with_its_engine(session):
    give(session, RESNET)
    table = LayerModel(session)
    session._jobs.run = RunState(kind="prune", state="failed", sparsity={"conv1": 0.75})
    table.refresh()
    assert table.index_of("conv1").data(DENSITY_ROLE) == 0.25
    session.client.died.emit("The engine was ended by SIGKILL.")
    table.refresh()
    assert table.index_of("conv1").data(DENSITY_ROLE) == 1.0
