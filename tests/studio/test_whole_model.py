"""What the plan says of the whole model, presets, and why something can't be chosen."""

import sys
from dataclasses import replace

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QCheckBox, QLabel, QPushButton, QSlider

from secateur.engine.allocation import ALLOCATIONS
from secateur.engine.criteria import CRITERIA
from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo, ModelInfo
from secateur.engine.plan import Plan, Training
from secateur.engine.plan.presets import Preset, presets
from secateur.studio.layers.layer_model import PATTERN, PLANNED_ROLE, LayerModel
from secateur.studio.look import theme
from secateur.studio.look.widgets import wrapped
from secateur.studio.plan.plan_panel import PlanPanel
from secateur.studio.plan.presets import PresetsMenu, title
from secateur.studio.state.client import EngineClient
from secateur.studio.state.session import Session


def conv(path, kernel=3, density=1.0):
    gemm = Gemm((16, 16, kernel, kernel), (kernel, kernel))
    size = gemm.shape[0] * gemm.shape[1]
    return LayerInfo(path, "Conv2d", f"{path}.weight", gemm.stored, size, "float32", gemm,
                     density=density, prunable=True)  # fmt: skip


INFO = ModelInfo(
    "sample:tests", "tests",
    (conv("first"), conv("middle"), conv("narrow", 1), conv("last")),
    params=9_000, bytes=36_000, data="sample:digits",
)  # fmt: skip


@pytest.fixture
def session(qtbot, tmp_path):
    theme.apply(QApplication.instance(), "dark")
    made = Session(EngineClient([sys.executable, "-c", ""]), home=tmp_path)
    made.opening.opened.emit({"info": INFO.to_json(), "project": None}, None)
    made.select(["middle"])
    yield made
    made.close()


@pytest.fixture
def panel(session, qtbot):
    made = PlanPanel(session)
    qtbot.addWidget(made)
    made.resize(318, 1400)
    made.show()
    return made


def tile(panel, kind):
    return panel._tiles.tile(kind)


def click(widget):
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton)


def switch(panel, name):
    QTest.mouseClick(panel.findChild(QCheckBox, name), Qt.MouseButton.LeftButton, pos=QPoint(8, 10))


def choose(section, kind):
    box, steps = section.box, section.box.findData(kind) - section.box.currentIndex()
    box.setFocus()
    for _ in range(abs(steps)):
        QTest.keyClick(box, Qt.Key.Key_Down if steps > 0 else Qt.Key.Key_Up)


def test_ends_stay_dense_by_one_click_and_undo(panel, session):
    session.select(["first", "middle", "last"])
    click(tile(panel, "element"))
    table = LayerModel(session)
    first = table.index_of("first")
    assert first.siblingAtColumn(PATTERN).data() == "element 50 %"
    switch(panel, "plan_ends")
    assert session.plan.ends == "dense"
    assert session.rule_for("first") is session.rule_for("last") is None
    assert session.rule_for("middle").sparsity == 0.5
    assert first.siblingAtColumn(PATTERN).data() == ""
    assert first.data(PLANNED_ROLE) is None
    assert "dense" in session.undo.undoText()
    session.undo.undo()
    assert not panel.findChild(QCheckBox, "plan_ends").isChecked()
    assert session.rule_for("first").sparsity == 0.5


def test_a_layer_that_ends_keep_dense_says_how_to_prune_it(panel, session):
    switch(panel, "plan_ends")
    session.select(["first"])
    assert not tile(panel, "element").isEnabled()
    assert "Whole model" in tile(panel, "element").toolTip()
    assert "Whole model" in panel._dense_words.text()
    assert not panel.findChild(QPushButton, "prune_layer").isVisible()
    # Beside other layers it is simply left alone.
    session.select(["first", "middle"], "first")
    click(tile(panel, "element"))
    assert session.plan.rule_for("first") is None
    assert session.rule_for("middle").pattern.kind == "element"


def test_zeros_are_taken_over_by_one_click_and_undo(panel, session):
    assert "nothing yet" in session.why_not("prune") or session.engine_state != "ready"
    switch(panel, "plan_take_zeros")
    assert session.plan.take_zeros
    assert Plan.from_json(session.plan.to_json()) == session.plan
    session.undo.undo()
    assert not session.plan.take_zeros
    assert not panel.findChild(QCheckBox, "plan_take_zeros").isChecked()
    tip = panel.findChild(QCheckBox, "plan_take_zeros").toolTip()
    assert "zero" in tip


def test_a_pattern_that_the_criterion_cannot_score_names_the_criterion(panel, session):
    click(tile(panel, "element"))
    choose(panel._criterion, "obs")
    assert session.rule_for("middle").criterion.kind == "obs"
    row = tile(panel, "row")
    assert not row.isEnabled()
    assert "change the criterion" in row.toolTip()
    assert tile(panel, "block").isEnabled()
    click(row)
    assert session.rule_for("middle").pattern.kind == "element"
    choose(panel._criterion, "magnitude")
    assert row.isEnabled()
    click(row)
    assert session.rule_for("middle").pattern.kind == "row"


def test_a_dense_layer_takes_any_pattern_whatever_scored_the_one_before(panel, session):
    click(tile(panel, "element"))
    choose(panel._criterion, "obs")
    session.select(["last"])
    assert tile(panel, "filter").isEnabled()
    click(tile(panel, "filter"))
    assert session.rule_for("last").pattern.kind == "filter"
    assert session.rule_for("last").criterion.kind == "magnitude"


def test_a_plan_with_a_clash_can_be_mended_from_both_sides(panel, session):
    click(tile(panel, "filter"))
    rule = session.rule_for("middle")
    obs = replace(rule, criterion=CRITERIA.parse("obs"))
    session.set_rule(["middle"], obs)
    assert not tile(panel, "filter").isEnabled()
    assert tile(panel, "element").isEnabled()
    box = panel._criterion.box
    assert box.model().item(box.findData("magnitude")).isEnabled()
    choose(panel._criterion, "magnitude")
    assert tile(panel, "filter").isEnabled()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "plans"
    made.mkdir()
    (made / "half-the-filters.yaml").write_text(
        "# Speed everywhere: half of all filters.\nversion: 1\nrules:\n"
        '  - {layers: "*", pattern: kernel:4, sparsity: 0.5, skip_misfits: true}\n'
        "training: {epochs: 3}\nends: dense\n",
        encoding="utf-8",
    )
    (made / "bare.yaml").write_text("#\nversion: 1\nrules: []\n", encoding="utf-8")
    return made


def of(folder):
    return lambda: [Preset(path) for path in sorted(folder.glob("*.yaml"))]


def test_presets_are_listed_by_what_they_are_for(session, folder):
    menu = PresetsMenu(session, None, of(folder))
    assert not menu.actions(), "files are read when the menu is asked for"
    menu.refill()
    assert [a.text() for a in menu.actions()] == [
        "bare\tbare",
        "Speed everywhere\thalf-the-filters",
    ]
    menu.deleteLater()


def test_a_preset_is_one_undo_step(panel, session, folder, qtbot):
    menu = PresetsMenu(session, panel, of(folder))
    click(tile(panel, "element"))
    before, steps = session.plan, session.undo.count()
    menu.popup(panel.mapToGlobal(QPoint(10, 10)))
    action = next(a for a in menu.actions() if a.objectName() == "preset_half-the-filters")
    assert action.toolTip() == "Speed everywhere: half of all filters."
    QTest.mouseClick(menu, Qt.MouseButton.LeftButton, pos=menu.actionGeometry(action).center())
    assert session.undo.count() == steps + 1
    assert session.plan.training == Training(epochs=3)
    assert session.plan.model == INFO.model
    assert session.undo.undoText() == "preset half-the-filters"
    # Kernels of 1×1 can't take the pattern: the preset leaves them, and the panel says so.
    session.select(["narrow"])
    assert session.rule_for("narrow") is None
    assert "does not fit" in panel._dense_words.text()
    session.undo.undo()
    assert session.plan == before


def test_a_preset_for_other_models_is_disabled_and_says_so(session, folder):
    (folder / "heads.yaml").write_text(
        "# Fewer heads: a quarter.\n"
        'rules: [{layers: "*", pattern: head, sparsity: 0.25, skip_misfits: true}]\n',
        encoding="utf-8",
    )
    menu = PresetsMenu(session, None, of(folder))
    menu.refill()
    heads = next(a for a in menu.actions() if a.objectName() == "preset_heads")
    assert not heads.isEnabled()
    assert heads.toolTip() == "Fewer heads: a quarter. It fits no layer of this model."
    menu.deleteLater()


def test_the_panel_and_the_menu_offer_presets(panel):
    button = panel.findChild(QPushButton, "presets")
    assert isinstance(button.menu(), PresetsMenu)
    button.menu().refill()
    assert all(title(preset) != preset.name for preset in presets())
    assert [a.objectName() for a in button.menu().actions()] == [
        f"preset_{preset.name}" for preset in presets()
    ]


def test_about_asks_for_the_pattern_s_page(panel, qtbot):
    button = panel.findChild(QPushButton, "pattern_help")
    with qtbot.waitSignal(panel.help_wanted) as asked:
        click(button)
    assert asked.args == ["patterns.md"]
    click(tile(panel, "group"))
    assert button.text() == "About group"
    with qtbot.waitSignal(panel.help_wanted) as asked:
        click(button)
    assert asked.args == ["patterns/group.md"]


def test_a_number_and_its_unit_stay_together(panel):
    panel._cards.energy.say("Keeps 77.4 % of the energy", "60.0 % asked")
    shown = panel.findChild(QLabel, "energy_card_head").text()
    assert "77.4\N{NO-BREAK SPACE}%" in shown


def test_the_slider_says_when_the_allocation_decides(panel, session):
    click(tile(panel, "element"))
    why = panel.findChild(QLabel, "sparsity_why")
    assert not why.isVisible()
    choose(panel._model.allocation, "global")
    assert why.text() == "Global threshold takes more here or less, for the same total."
    choose(panel._model.allocation, "flops")
    assert why.isVisible()
    assert "only for the preview" in why.text()
    assert panel.findChild(QSlider, "sparsity_slider").isEnabled()
    choose(panel._model.allocation, "uniform")
    assert not why.isVisible()


@pytest.mark.parametrize("cls", list(ALLOCATIONS), ids=lambda cls: cls.kind)
def test_every_allocation_s_settings_have_fields(cls, panel, qtbot):
    choose(panel._model.allocation, cls.kind)
    qtbot.wait(20)
    form = panel._model.allocation.form
    for field in cls.fields():
        editor = form.editor(field.name)
        assert editor.isVisible()
        assert editor.toolTip() == wrapped(field.help)
        assert editor.mapTo(panel, editor.rect().topRight()).x() < panel.width()
