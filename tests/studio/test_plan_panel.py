import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QApplication,
    QComboBox,
    QLabel,
    QPushButton,
    QSlider,
    QWidget,
)

from secateur.engine.criteria import CRITERIA
from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo, ModelInfo
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Plan, Rule, Training
from secateur.engine.schedules import SCHEDULES
from secateur.studio.look import theme
from secateur.studio.plan.plan_panel import PlanPanel
from secateur.studio.plan.schedule_curve import at, curve, length
from secateur.studio.plan.verdict import energy_words, rule_json, speed_words
from secateur.studio.state.client import EngineClient
from secateur.studio.state.session import Session

sys.path.append(str(Path(__file__).parent))
import measured


def layer(path, stored, kernel=(), reason=None, shares=(), head=0, **traced):
    gemm = Gemm(stored, kernel, head=head)
    size = gemm.shape[0] * gemm.shape[1]
    return LayerInfo(
        path, "Conv2d", f"{path}.weight", stored, size, "float32", gemm,
        density=1.0, prunable=reason is None, reason=reason, shares=shares,
        **traced,
    )  # fmt: skip


INFO = ModelInfo(
    "sample:tests", "tests",
    (
        layer("conv1", (64, 3, 7, 7), (7, 7)),
        layer("conv2", (128, 128, 3, 3), (3, 3)),
        layer("conv3", (128, 128, 3, 3), (3, 3)),
        layer("narrow", (2, 3, 3, 3), (3, 3)),
        layer("embed", (10, 10), reason="embeddings stay as they are by default"),
        layer("tied", (10, 10), shares=("head",)),
        layer("query", (64, 64), also=("key", "attention.out")),
        layer("key", (64, 64), also=("query", "attention.out")),
        layer("attention.out", (64, 64), head=16),
        layer("block.0", (64, 64), also=("block.norm", "block.1", "block.2", "block.3", "end")),
        layer("end", (64, 64), branch=True, fixed="the model's output reads them"),
    ),
    params=300_000, bytes=1_200_000,
)  # fmt: skip


@pytest.fixture
def session(qtbot, tmp_path):
    theme.apply(QApplication.instance(), "dark")
    made = Session(EngineClient([sys.executable, "-c", ""]), home=tmp_path)
    yield made
    made.close()


@pytest.fixture
def panel(session, qtbot):
    session.opening.opened.emit({"info": INFO.to_json(), "project": None}, None)
    session.select(["conv2"])
    made = PlanPanel(session)
    qtbot.addWidget(made)
    made.resize(318, 900)
    made.show()
    return made


def child(panel, kind, name):
    found = panel.findChild(kind, name)
    assert found is not None, name
    return found


def click(widget):
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton)


def tile(panel, kind):
    return panel._tiles.tile(kind)


def slider(panel):
    return child(panel, QSlider, "sparsity_slider")


def drag(widget, share):
    """Press the handle, drag it to a share of the groove in several moves, let go."""

    def place(value):
        span = widget.width() - 16
        return QPoint(8 + round(span * value / 1000), widget.height() // 2)

    start, end = widget.value(), round(share * 1000)
    QTest.mousePress(widget, Qt.MouseButton.LeftButton, pos=place(start))
    for part in (0.25, 0.5, 0.75, 1.0):
        QTest.mouseMove(widget, place(start + (end - start) * part))
    QTest.mouseRelease(widget, Qt.MouseButton.LeftButton, pos=place(end))


def test_a_dense_layer_is_pruned_by_one_click(panel, session):
    assert session.plan.rule_for("conv2") is None
    assert child(panel, QPushButton, "prune_layer").isVisible()
    assert not slider(panel).isVisible()
    assert panel._tiles.current is None
    click(child(panel, QPushButton, "prune_layer"))
    rule = session.plan.rule_for("conv2")
    assert (rule.pattern.kind, rule.sparsity) == ("element", 0.5)
    assert session.plan.rule_for("conv1") is None
    assert slider(panel).isVisible()
    assert not child(panel, QPushButton, "prune_layer").isVisible()


@pytest.mark.parametrize("kind", list(PATTERNS.kinds()))
def test_a_tile_sets_its_pattern_and_only_one_is_chosen(kind, panel, session):
    path = {"head": "attention.out", "layer": "end"}.get(kind, "conv2")
    session.select([path])
    click(tile(panel, "element"))
    click(tile(panel, kind))
    rule = session.plan.rule_for(path)
    assert rule.pattern.kind == kind
    assert [k for k in PATTERNS.kinds() if tile(panel, k).isChecked()] == [kind]
    assert tile(panel, kind).toolTip().endswith(PATTERNS.kinds()[kind].summary())


def test_tiles_are_walked_by_arrows_and_chosen_by_space_or_enter(panel, session, qtbot):
    kinds = list(PATTERNS.kinds())
    panel.activateWindow()
    qtbot.waitUntil(panel.isActiveWindow)
    tile(panel, kinds[0]).setFocus()
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Right)
    assert QApplication.focusWidget() is tile(panel, kinds[1])
    assert session.plan.rule_for("conv2") is None
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Return)
    assert session.plan.rule_for("conv2").pattern.kind == kinds[1]
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Right)
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Space)
    assert session.plan.rule_for("conv2").pattern.kind == kinds[2]


def test_a_pattern_that_does_not_fit_is_disabled_and_says_why(panel, session):
    session.select(["narrow"])
    block = tile(panel, "block")
    assert not block.isEnabled()
    reason = f"narrow {PATTERNS.parse('block').misfit(layer('narrow', (2, 3, 3, 3), (3, 3)))}"
    assert reason in block.toolTip()
    assert block.accessibleDescription() == reason
    click(block)
    assert session.plan.rule_for("narrow") is None
    session.select(["conv2"])
    assert block.isEnabled()
    # One layer of the selection is enough.
    session.select(["conv2", "narrow"])
    assert not block.isEnabled()


def test_a_pattern_whose_own_settings_fit_stays_enabled(panel, session):
    session.set_rule(
        ["narrow"], Rule("", PATTERNS.parse("block:2x3"), CRITERIA.parse("magnitude"), 0.5)
    )
    session.select(["narrow"])
    assert tile(panel, "block").isEnabled()
    assert tile(panel, "block").isChecked()


def test_dragging_the_slider_previews_and_is_one_undo_step(panel, session):
    click(tile(panel, "group"))
    steps = session.undo.count()
    seen = []
    session.plan_changed.connect(lambda: seen.append(session.plan.rule_for("conv2").sparsity))
    drag(slider(panel), 0.8)
    assert session.plan.rule_for("conv2").sparsity == pytest.approx(0.8, abs=0.02)
    assert seen, "the drag previews"
    assert session.undo.count() == steps + 1
    drag(slider(panel), 0.3)
    assert session.undo.count() == steps + 2
    session.undo.undo()
    assert session.plan.rule_for("conv2").sparsity == pytest.approx(0.8, abs=0.02)
    session.undo.undo()
    assert session.plan.rule_for("conv2").sparsity == 0.5
    assert slider(panel).value() == 500


def test_key_presses_on_the_slider_settle_into_one_step(panel, session, qtbot):
    click(tile(panel, "element"))
    steps = session.undo.count()
    for _ in range(3):
        QTest.keyClick(slider(panel), Qt.Key.Key_Right)
    qtbot.waitUntil(lambda: session.plan.rule_for("conv2").sparsity == 0.53)
    assert session.undo.count() == steps + 1
    qtbot.wait(800)
    QTest.keyClick(slider(panel), Qt.Key.Key_Right)
    assert session.undo.count() == steps + 2


def test_an_exact_sparsity_is_typed(panel, session):
    click(tile(panel, "element"))
    box = panel._sparsity._box
    assert box.text() == "50.0 %"
    box.selectAll()
    QTest.keyClicks(box, "72.35\r")
    assert session.plan.rule_for("conv2").sparsity == 0.7235
    assert box.text() == "72.35 %"
    assert slider(panel).value() in (723, 724)
    assert session.undo.undoText().startswith("set conv2 to element 72.")


def test_a_fixed_sparsity_locks_the_slider_and_comes_back_after(panel, session):
    click(tile(panel, "element"))
    session.set_sparsity_live(["conv2"], 0.7)
    click(tile(panel, "nm"))
    assert session.plan.rule_for("conv2").sparsity == 0.5
    assert not slider(panel).isEnabled()
    why = child(panel, QLabel, "sparsity_why")
    assert why.isVisible()
    assert "50 %" in why.text()
    click(tile(panel, "group"))
    assert session.plan.rule_for("conv2").sparsity == 0.7
    assert slider(panel).isEnabled()
    assert not why.isVisible()


def test_the_pattern_s_own_settings_are_edited_in_place(panel, session):
    click(tile(panel, "nm"))
    box = panel._pattern_form.editor("n")
    box.selectAll()
    QTest.keyClicks(box, "1\r")
    assert session.plan.rule_for("conv2").pattern.to_plan() == "nm:1:4"
    assert session.plan.rule_for("conv2").sparsity == 0.75
    box.selectAll()
    QTest.keyClicks(box, "7\r")
    assert session.plan.rule_for("conv2").pattern.to_plan() == "nm:1:4"
    assert panel._pattern_form.findChild(QLabel, "pattern_form_problem").isVisible()


def test_changes_apply_to_every_selected_layer_and_are_listed(panel, session):
    session.select(["conv2", "conv3", "embed"], "conv2")
    assert child(panel, QPushButton, "prune_layer").text() == "Prune these 2 layers"
    click(tile(panel, "group"))
    assert session.plan.rule_for("conv3") == replace(session.plan.rule_for("conv2"), layers="conv3")
    assert session.plan.rule_for("embed") is None
    assert child(panel, QLabel, "reach_card_head").text() == "Changes apply to 2 selected layers"
    details = child(panel, QLabel, "reach_card_details").text()
    assert "conv2, conv3" in details
    assert "1 other selected layer can't be pruned" in details


def test_a_shared_weight_is_named(panel, session):
    session.select(["tied"])
    click(tile(panel, "element"))
    assert "Also changes head" in child(panel, QLabel, "reach_card_details").text()


def test_stay_dense_and_apply_to_all(panel, session):
    click(tile(panel, "block"))
    click(child(panel, QPushButton, "apply_to_all"))
    plan = session.plan
    assert plan.rule_for("conv1").pattern.kind == "block"
    # The block does not fit here, so the layer is left alone rather than failing the run.
    assert session.rule_for("narrow") is None
    assert plan.rules[0].skip_misfits
    click(child(panel, QPushButton, "stay_dense"))
    assert session.plan.rule_for("conv2").sparsity == 0
    assert session.plan.rule_for("conv1").sparsity == 0.5
    assert child(panel, QPushButton, "prune_layer").isVisible()
    session.undo.undo()
    session.undo.undo()
    assert session.plan.rule_for("conv1") is None
    assert session.plan.rule_for("conv2").pattern.kind == "block"


def test_a_layer_that_cannot_be_pruned_says_why(panel, session):
    session.select(["embed"])
    empty = child(panel, QLabel, "plan_empty")
    assert empty.isVisible()
    assert empty.text() == "embed stays as it is. Embeddings stay as they are by default."
    assert not panel._tiles.isVisible()


def test_without_a_model_there_is_one_quiet_line(session, qtbot):
    made = PlanPanel(session)
    qtbot.addWidget(made)
    made.show()
    assert made.findChild(QLabel, "plan_empty").text() == "Open a model to plan how it is pruned."
    assert not made._model.schedule.isVisible()


def choose(section, kind):
    """Pick an entry of a combo box by keys."""
    steps = section.box.findData(kind) - section.box.currentIndex()
    section.box.setFocus()
    for _ in range(abs(steps)):
        QTest.keyClick(section.box, Qt.Key.Key_Down if steps > 0 else Qt.Key.Key_Up)


def test_a_schedule_that_trains_brings_its_training(panel, session):
    assert session.plan.training is None
    assert not panel._model.training.form.isVisible()
    choose(panel._model.schedule, "agp")
    assert session.plan.schedule.kind == "agp"
    assert session.plan.training == Training()
    assert panel._model.training.form.isVisible()
    assert not panel._model.training.switch.isEnabled()
    assert child(panel, QLabel, "training_note").isVisible(), "no data is known for this model"
    box = panel._model.training.form.editor("epochs")
    box.selectAll()
    QTest.keyClicks(box, "8\r")
    assert session.plan.training.epochs == 8
    choose(panel._model.schedule, "oneshot")
    assert panel._model.training.switch.isEnabled()
    QTest.mouseClick(panel._model.training.switch, Qt.MouseButton.LeftButton, pos=QPoint(8, 10))
    assert session.plan.training is None
    assert not panel._model.training.form.isVisible()
    QTest.mouseClick(panel._model.training.switch, Qt.MouseButton.LeftButton, pos=QPoint(8, 10))
    assert session.plan.training.epochs == 8, "what was typed is not lost"


def test_allocation_and_criterion_reach_the_plan(panel, session):
    choose(panel._model.allocation, "global")
    assert session.plan.allocation.kind == "global"
    click(tile(panel, "element"))
    box = panel._criterion.form.editor("norm")
    box.selectAll()
    QTest.keyClicks(box, "1\r")
    assert session.plan.rule_for("conv2").criterion.norm == 1
    assert Plan.from_json(session.plan.to_json()) == session.plan


def enabled(panel):
    box = panel._criterion.box
    return {box.itemData(i): box.model().item(i).isEnabled() for i in range(box.count())}


def test_a_criterion_that_cannot_score_is_disabled_and_says_why(panel, session):
    click(tile(panel, "element"))
    assert enabled(panel)["lamp"]
    assert not enabled(panel)["wanda"], "the model brings no data"
    box = panel._criterion.box
    tip = box.itemData(box.findData("wanda"), Qt.ItemDataRole.ToolTipRole)
    assert "calibration data" in tip
    session.set_plan(replace(session.plan, training=Training(data="sample:digits")), "data")
    assert all(enabled(panel).values())
    click(tile(panel, "filter"))
    assert not enabled(panel)["obs"]
    tip = box.itemData(box.findData("obs"), Qt.ItemDataRole.ToolTipRole)
    assert tip.startswith("conv2 loses whole outputs")
    click(tile(panel, "element"))
    choose(panel._criterion, "taylor")
    assert session.plan.rule_for("conv2").criterion.kind == "taylor"
    assert panel._criterion.form.editor("samples").value() == 256


@pytest.mark.parametrize("look", ["dark", "light"])
def test_a_disabled_criterion_looks_disabled_and_its_tip_is_narrow(panel, session, look, qtbot):
    theme.apply(QApplication.instance(), look)
    session.set_plan(replace(session.plan, training=Training(data="sample:digits")), "data")
    click(tile(panel, "filter"))
    box = panel._criterion.box
    box.showPopup()
    view = box.view()
    qtbot.waitUntil(view.isVisible)
    ground = theme.current().colour("raise_").lightness()

    def ink(kind):
        """How far the strongest pixel of an entry stands off what it lies on."""
        index = box.model().index(box.findData(kind), 0)
        view.scrollTo(index)
        row = view.viewport().grab(view.visualRect(index).adjusted(8, 4, -8, -4)).toImage()
        places = product(range(row.width()), range(row.height()))
        return max(abs(row.pixelColor(*place).lightness() - ground) for place in places)

    assert not enabled(panel)["obs"]
    assert enabled(panel)["wanda"]
    assert ink("obs") < 0.75 * ink("wanda")
    reason = box.itemData(box.findData("obs"), Qt.ItemDataRole.ToolTipRole)
    assert len(reason) > 80
    assert max(map(len, reason.split("\n"))) <= 60
    box.hidePopup()


def test_no_tooltip_is_wider_than_360_pixels(panel, session):
    """Except where one word, such as a path, is."""
    click(tile(panel, "filter"))
    tips = [part.toolTip() for part in panel.findChildren(QWidget)]
    for box in panel.findChildren(QComboBox):
        tips += [box.itemData(i, Qt.ItemDataRole.ToolTipRole) or "" for i in range(box.count())]
    plain = [tip for tip in tips if tip and not tip.startswith("<")]
    assert len(plain) > 30
    assert [tip for tip in plain if any(len(line) > 60 for line in tip.split("\n"))] == []


def test_undo_shows_in_the_panel(panel, session):
    click(tile(panel, "element"))
    click(tile(panel, "group"))
    session.undo.undo()
    assert panel._tiles.current == "element"
    session.undo.undo()
    assert panel._tiles.current is None


def test_tiles_paint_the_engine_s_examples(panel, qtbot):
    look = theme.DARK

    def inks():
        picture = tile(panel, "group").grab().toImage()
        return {picture.pixelColor(x, 30).name() for x in range(picture.width())}

    assert look.leaf not in inks()
    mask = np.zeros((12, 12), np.uint8)
    mask[:, ::3] = 1
    panel._tiles.set_examples({"group": mask, "unknown": mask})
    assert look.leaf in inks()


def test_the_curve_is_the_schedule_s_own_target():
    agp = SCHEDULES.parse({"kind": "agp", "begin": 100, "end": 500, "every": 50})
    total = length(agp)
    points = dict(curve(agp, 0.8, total))
    for step in range(501):
        target = agp.target(step, total, 0.8)
        assert points.get(step) == target
    assert at(curve(agp, 0.8, total), 99) == 0.0
    assert at(curve(agp, 0.8, total), 120) == agp.target(100, total, 0.8)
    assert at(curve(agp, 0.8, total), total) == pytest.approx(0.8)
    oneshot = SCHEDULES.parse("oneshot")
    assert curve(oneshot, 0.5, length(oneshot)) == ((0, 0.5), (1000, 0.5))


def test_a_long_schedule_is_drawn_from_few_points():
    agp = SCHEDULES.parse({"kind": "agp", "end": 2_000_000, "every": 1000})
    points = curve(agp, 0.9, length(agp))
    assert len(points) < 5000
    assert dict(points)[2_000_000] == pytest.approx(0.9)


def rule(pattern="group", sparsity=0.6):
    return Rule("conv2", PATTERNS.parse(pattern), CRITERIA.parse("magnitude"), sparsity)


def cell(kept, ms):
    return measured.cell("conv2", "group", kept, 0.94, ms)


def test_the_card_says_the_engine_s_verdict_on_the_nearest_cell():
    lost = measured.stays_dense("conv2", "group", 0.9, 0.94, 1.1)
    cells = [lost, cell(0.75, 0.8), cell(0.4, 0.58)]
    role, head, details = speed_words(rule(), cells)
    assert (role, head) == ("good", "Group at 60 % runs 1.6x faster than dense here")
    assert details == "dense 0.94 ms, grouped (gather) 0.58 ms · pays from 18 % on"
    role, head, details = speed_words(rule(sparsity=0.1), cells)
    assert role == "warn"
    assert head == "Group at 10 % stays slower than dense on this machine: shown as dense"
    assert details.startswith("dense 0.94 ms · pays")
    assert speed_words(rule(), [])[1] == "Not measured yet"


def test_a_busy_machine_is_no_verdict():
    noisy = measured.cell("conv2", "group", 0.4, 0.94, 0.58, busy=True)
    role, head, _ = speed_words(rule(), [noisy])
    assert role == "warn"
    assert head == "No verdict on group at 60 %: this machine was busy, measure again"


def test_a_measurement_at_another_sparsity_says_at_which():
    _, head, _ = speed_words(rule(sparsity=0.6), [cell(0.5, 0.6)])
    assert head.startswith("Group at 50 %")


def test_energy_words_count_units_and_tell_what_was_asked():
    answer = {"energy": 0.9312, "kept_units": 461, "units": 1152, "unit": "input position",
              "achieved": 0.5998}  # fmt: skip
    assert energy_words(rule(), answer) == (
        "Keeps 93.1 % of the energy",
        "461 of 1,152 input positions kept",
    )
    answer["achieved"] = 0.55
    assert energy_words(rule(), answer)[1].endswith("· 55.0 % zeros, 60.0 % asked")


def test_a_rule_goes_to_the_engine_as_a_plan_writes_it():
    assert rule_json(rule("nm:2:4", 0.5)) == {
        "layers": "conv2", "pattern": "nm:2:4", "criterion": "magnitude",
    }  # fmt: skip


def test_measured_cells_reach_the_card(panel, session):
    click(tile(panel, "group"))
    session.set_sparsity_live(["conv2"], 0.6)
    head = child(panel, QLabel, "speed_card_head")
    assert head.text() == "Not measured yet"
    session.measuring.found.add([cell(0.4, 0.58)], of_run=False)
    session.run_changed.emit()
    assert head.text() == "Group at 60\N{NO-BREAK SPACE}% runs 1.6x faster than dense here"
    shown = []
    session.measuring.pair_changed.connect(lambda: shown.append(session.measuring.pair["kept"]))
    click(child(panel, QPushButton, "speed_card_pair"))
    assert shown == [0.4]
    button = child(panel, QPushButton, "speed_card_action")
    assert not button.isEnabled()
    assert button.toolTip() == session.why_not("measure")


def test_the_panel_is_no_wider_than_its_dock(panel, session, qtbot):
    for kind in PATTERNS.kinds():
        click(tile(panel, kind))
        choose(panel._model.schedule, "agp")
        qtbot.wait(10)
        area = panel.findChild(type(panel._rule_part), "plan_body")
        assert area.minimumSizeHint().width() <= 318 - 10, kind


def test_the_module_needs_no_torch():
    import subprocess

    code = (
        "import sys, secateur.studio.plan.plan_panel, secateur.studio.runs.run_strip;"
        "print([m for m in ('torch', 'onnx', 'transformers', 'cupy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                         cwd=Path(sys.executable).parent, check=True)  # fmt: skip
    assert run.stdout.strip() == "[]"
