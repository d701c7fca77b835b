"""Every schedule in the plan panel: its curve, its training, its data, and what does not fit."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QLabel, QToolButton

from secateur.engine.criteria import CRITERIA
from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo, ModelInfo
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Rule, Training
from secateur.engine.schedules import SCHEDULES
from secateur.studio.look import theme
from secateur.studio.plan.data_field import ADDRESSES
from secateur.studio.plan.plan_panel import PlanPanel
from secateur.studio.plan.plan_sections import training_words
from secateur.studio.plan.schedule_curve import ScheduleCurve, at, curve, length
from secateur.studio.state.client import EngineClient
from secateur.studio.state.session import Session

EVERY = [
    *(cls() for cls in SCHEDULES),
    SCHEDULES.parse({"kind": "movement", "form": "soft"}),
    SCHEDULES.parse({"kind": "agp", "begin": 20, "end": 4000}),
]


def conv(path):
    gemm = Gemm((16, 16, 3, 3), (3, 3))
    return LayerInfo(path, "Conv2d", f"{path}.weight", gemm.stored, 2304, "float32", gemm,
                     density=1.0, prunable=True)  # fmt: skip


INFO = ModelInfo("sample:tests", "tests", (conv("a"), conv("b")), params=4608, bytes=18432)


@pytest.fixture(params=[None, "sample:digits"], ids=["no data", "data"])
def session(request, qtbot, tmp_path):
    theme.apply(QApplication.instance(), "dark")
    made = Session(EngineClient([sys.executable, "-c", ""]), home=tmp_path)
    info = replace(INFO, data=request.param)
    made.opening.opened.emit({"info": info.to_json(), "project": None}, None)
    made.select(["a"])
    made.set_rule(["a", "b"], Rule("*", PATTERNS.parse("element"), CRITERIA.parse("random"), 0.5))
    yield made
    made.close()


@pytest.fixture
def panel(session, qtbot):
    made = PlanPanel(session)
    qtbot.addWidget(made)
    made.resize(318, 1600)
    made.show()
    return made


def choose(panel, kind):
    """Pick a schedule by keys; disabled ones are passed over."""
    box = panel._model.schedule.box
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_Home)
    while box.currentData() != kind:
        before = box.currentIndex()
        QTest.keyClick(box, Qt.Key.Key_Down)
        if box.currentIndex() == before:
            return


def reason(panel, kind):
    box = panel._model.schedule.box
    item = box.model().item(box.findData(kind))
    return "" if item.isEnabled() else " ".join(item.toolTip().split())


@pytest.mark.parametrize("schedule", EVERY, ids=lambda s: f"{s.kind} {getattr(s, 'form', '')}")
@pytest.mark.parametrize("total", [1, 7, 300])
def test_every_schedule_s_curve_ends_at_what_is_asked(schedule, total, qtbot):
    span = length(schedule, total)
    points = curve(schedule, 0.8, span)
    assert points[-1] == (span, pytest.approx(0.8))
    assert at(points, schedule.last_step(span)) == pytest.approx(0.8)
    sparsities = [sparsity for _, sparsity in points]
    assert sparsities == sorted(sparsities)
    assert all(0 <= sparsity <= 0.8 + 1e-9 for sparsity in sparsities)
    shown = ScheduleCurve()
    qtbot.addWidget(shown)
    shown.resize(290, 64)
    shown.show_schedule(schedule, 0.8, total, total // 2)
    blank = shown.grab().toImage()
    shown.show_schedule(schedule, 0.0)
    assert shown.grab().toImage() != blank
    assert schedule.course_words in shown.toolTip()


def test_masks_that_are_learned_are_said_to_be(qtbot):
    steered = {s.kind for s in EVERY if "steered" in s.course_words}
    assert steered == {"dst", "gates", "movement"}
    # Nothing is cut before the end, and nothing changes in how much goes.
    assert at(curve(SCHEDULES.parse("admm"), 0.8, 100), 74) == 0
    assert at(curve(SCHEDULES.parse("rigl"), 0.8, 100), 0) == 0.8


@pytest.mark.parametrize("kind", [c.kind for c in SCHEDULES])
def test_every_schedule_is_chosen_shown_and_undone(kind, panel, session, qtbot):
    if kind == "gumbel":
        session.set_rule(["a", "b"], Rule("*", PATTERNS.parse("nm:2:4"), CRITERIA.parse("random"),
                                          0.5))  # fmt: skip
    before, steps = session.plan, session.undo.index()
    choose(panel, kind)
    assert session.plan.schedule.kind == kind
    qtbot.wait(20)
    form = panel._model.schedule.form
    box = panel._model.schedule.box
    assert box.fontMetrics().horizontalAdvance(box.currentText()) <= box.width() - 38, "cut off"
    for field in session.plan.schedule.fields():
        editor = form.editor(field.name)
        assert editor.isVisible()
        assert editor.mapTo(panel, editor.rect().topRight()).x() < panel.width()
    for words in panel._model.findChildren(QLabel):
        if words.isVisible() and not words.wordWrap():
            assert words.width() >= words.fontMetrics().horizontalAdvance(words.text()), "cut off"
    session.undo.setIndex(steps)
    assert session.plan == before
    assert box.currentData() == "oneshot"


def test_a_schedule_that_does_not_fit_is_disabled_and_says_why(panel, session):
    assert "nm:2:4 would fit" in reason(panel, "gumbel")
    assert reason(panel, "dst") == ""
    choose(panel, "gumbel")
    assert session.plan.schedule.kind != "gumbel"
    vector = Rule("*", PATTERNS.parse("vector:4"), CRITERIA.parse("random"), 0.5)
    session.set_rule(["b"], vector)
    sentence = reason(panel, "dst")
    assert sentence == f"b {SCHEDULES.parse('dst').misfit(INFO.layers[1], vector.pattern)}"


def test_a_plan_whose_schedule_does_not_fit_says_so_where_it_is_run(panel, session):
    note = panel.findChild(QLabel, "schedule_misfit")
    assert not note.isVisible()
    training = Training(data="sample:digits")
    plan = replace(session.plan, schedule=SCHEDULES.parse("gumbel"), training=training)
    session.set_plan(plan, "gumbel")
    misfit = plan.schedule.misfit(INFO.layers[0], PATTERNS.parse("element"))
    assert note.isVisible()
    assert note.text() == f"a {misfit}."
    session.client.state = "ready"
    assert session.why_not("prune") == f"a {misfit}"
    session.undo.undo()
    assert not note.isVisible()
    assert session.why_not("prune") == ""
    session.client.state = "stopped"


def test_a_plan_that_distils_from_a_network_without_knowledge_says_so(panel, session):
    note = panel.findChild(QLabel, "training_note")
    plan = replace(session.plan, training=Training(data="sample:digits", distil=True))
    session.client.state = "ready"
    session.set_plan(plan, "distil")
    assert not note.isVisible()
    assert session.why_not("prune") == ""
    session.info = replace(session.info, model="new:mlp:64-30-10")
    session.set_plan(replace(plan, seed=1), "seed")
    assert note.isVisible()
    assert "learned nothing that it could teach" in note.text()
    assert session.why_not("prune") == note.text().removesuffix(".")
    session.set_plan(replace(plan, training=replace(plan.training, distil=False)), "no distil")
    assert not note.isVisible()
    assert session.why_not("prune") == ""
    session.client.state = "stopped"


def test_layers_that_a_rule_may_skip_make_no_plan_unfit(panel, session):
    schedule = SCHEDULES.parse("gumbel")
    rules = (
        Rule("a", PATTERNS.parse("nm:2:4"), CRITERIA.parse("random"), 0.5),
        Rule("*", PATTERNS.parse("element"), CRITERIA.parse("random"), 0.5, skip_misfits=True),
    )
    session.set_plan(replace(session.plan, rules=rules, schedule=schedule), "mixed")
    assert reason(panel, "gumbel") == ""
    assert session.rule_for("a") is not None
    assert session.rule_for("b") is None
    assert "nm:2:4 would fit" in session.assigned.why_dense("b")
    session.set_plan(replace(session.plan, rules=rules[1:]), "none fits")
    assert session.assigned.refusal.startswith("the plan fits no layer: a has pattern")


@pytest.mark.parametrize("session", ["sample:digits"], indirect=True)
def test_steps_that_the_training_does_not_have_are_said(panel, session):
    note = panel.findChild(QLabel, "training_note")
    session.client.state = "ready"
    late = SCHEDULES.parse({"kind": "agp", "end": 2301})
    session.set_plan(replace(session.plan, schedule=late, training=Training(epochs=1)), "late")
    assert not note.isVisible()  # how many steps there are is not known yet
    assert session.why_not("prune") == ""
    report = {"plan": session.plan.to_json(), "history": [{"step": 23, "accuracy": 0.9}]}
    session.report = report
    session.set_plan(replace(session.plan, seed=1), "again")
    assert "end is step 2301, but the training has 23 steps" in note.text()
    assert session.why_not("prune") + "." == note.text()
    assert note.isVisible()
    session.set_plan(replace(session.plan, training=Training(epochs=2)), "longer")
    assert not note.isVisible()
    session.set_plan(replace(session.plan, training=Training(epochs=0)), "none")
    assert "0 epochs train nothing" in note.text()
    session.client.state = "stopped"


def test_training_without_data_is_said_and_mended_by_a_completion(panel, session, qtbot):
    choose(panel, "agp")
    note = panel.findChild(QLabel, "training_note")
    words = panel.findChild(QLabel, "training_words")
    if session.info.data is not None:
        assert not note.isVisible()
        assert words.text() == "20 epochs of sample:digits, 64 samples a step."
        return
    assert note.isVisible()
    assert note.text().startswith("Gradual (AGP) needs data")
    session.client.state = "ready"
    assert "brings no data" in session.why_not("prune")
    session.client.state = "stopped"
    box = panel._model.training.data.box
    popup = box.completer().popup()
    QTest.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(10, 10))
    qtbot.waitUntil(popup.isVisible)
    listed = [popup.model().index(row, 0).data() for row in range(popup.model().rowCount())]
    assert listed == [begin for begin, _ in ADDRESSES]
    QTest.keyClick(popup, Qt.Key.Key_Down)
    QTest.keyClick(popup, Qt.Key.Key_Return)
    QTest.keyClick(box, Qt.Key.Key_Return)
    assert session.plan.training.data == "sample:digits"
    assert not note.isVisible()
    assert words.isVisible()
    session.undo.undo()
    assert session.plan.training.data is None
    assert box.text() == ""
    assert note.isVisible()


def test_an_address_that_is_only_begun_asks_for_the_rest(panel, session, monkeypatch, tmp_path):
    choose(panel, "agp")
    field = panel._model.training.data
    QTest.keyClicks(field.box, "cifar10:")
    QTest.keyClick(field.box, Qt.Key.Key_Return)
    assert session.plan.training.data is None
    assert "takes a folder" in panel.findChild(QLabel, "data_note").text()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a: str(tmp_path))
    QTest.mouseClick(panel.findChild(QToolButton, "data_browse"), Qt.MouseButton.LeftButton)
    assert session.plan.training.data == f"cifar10:{tmp_path}"
    session.undo.undo()
    assert session.plan.training.data is None
    QTest.mouseClick(panel.findChild(QToolButton, "data_browse"), Qt.MouseButton.LeftButton)
    assert session.plan.training.data == str(tmp_path), "a folder needs no beginning"


def test_a_table_is_a_file(panel, session, monkeypatch, tmp_path):
    choose(panel, "agp")
    field = panel._model.training.data
    QTest.keyClicks(field.box, "csv:")
    QTest.keyClick(field.box, Qt.Key.Key_Return)
    table = tmp_path / "t.csv"
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (str(table), ""))
    QTest.mouseClick(field.browse, Qt.MouseButton.LeftButton)
    assert session.plan.training.data == f"csv:{table}"


def test_all_kinds_of_data_are_offered():
    source = Path(sys.modules["secateur.engine"].__file__).parent / "data" / "load.py"
    schemes = re.findall(r'^    "([\w-]+)": _Source', source.read_text(encoding="utf-8"), re.M)
    assert "cifar10" in schemes
    assert {begin.partition(":")[0] for begin, _ in ADDRESSES} == {*schemes, "my_module"}


def test_what_a_training_will_do_in_words():
    training, agp = Training(epochs=20, batch=64), SCHEDULES.parse("agp")
    assert training_words(training, "sample:digits", 23, agp) == (
        "20 epochs of sample:digits: 460 steps of 64 samples, 23 an epoch."
    )
    one = Training(epochs=1)
    assert training_words(one, "x", None, agp) == "1 epoch of x, 64 samples a step."
    assert training_words(one, "x", 20, agp).endswith("20 an epoch.")
    late = SCHEDULES.parse({"kind": "agp", "end": 19})
    assert training_words(one, "x", 20, late).endswith("an epoch, and on to 39 to recover.")
    beyond = SCHEDULES.parse({"kind": "agp", "end": 21})
    assert training_words(one, "x", 20, beyond).endswith("an epoch, and on to 41 to recover.")
    assert training_words(one, "x", 20, SCHEDULES.parse("gumbel")).endswith("20 an epoch.")
    assert training_words(Training(epochs=0), "x", None, agp).startswith("No training")
