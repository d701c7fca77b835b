import dataclasses

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QLineEdit,
    QSpinBox,
)

from secateur.engine.allocation import ALLOCATIONS
from secateur.engine.criteria import CRITERIA
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Training, training_fields
from secateur.engine.schedules import SCHEDULES
from secateur.studio.look.widgets import wrapped
from secateur.studio.plan.setting_form import SettingForm, optional
from secateur.studio.state.starting import base_type, starting

FAMILIES = (PATTERNS, CRITERIA, ALLOCATIONS, SCHEDULES)
KINDS = [kind for family in FAMILIES for kind in family]
FIELDS = [(kind, field) for kind in KINDS for field in kind.fields()]


@pytest.fixture
def form(qtbot):
    made = SettingForm("form")
    qtbot.addWidget(made)
    made.resize(290, 400)
    made.show()
    return made


def caught(form):
    values = []
    form.edited.connect(values.append)
    return values


def step(editor):
    """Change a field as a person does: keys and clicks. Returns what it then shows."""
    editor.setFocus()
    if isinstance(editor, QComboBox):
        QTest.keyClick(editor, Qt.Key.Key_Down)
        return editor.currentData()
    if isinstance(editor, QCheckBox):
        QTest.mouseClick(editor, Qt.MouseButton.LeftButton, pos=QPoint(8, editor.height() // 2))
        return editor.isChecked()
    if isinstance(editor, QLineEdit) and "," in editor.text():
        editor.selectAll()
        QTest.keyClicks(editor, "0.2, .4,0.65\r")
        return tuple(float(word) for word in editor.text().split(","))
    if isinstance(editor, QLineEdit):
        QTest.keyClicks(editor, "sample:digits")
        QTest.keyClick(editor, Qt.Key.Key_Return)
        return editor.text()
    up = editor.value() + editor.singleStep() <= editor.maximum()
    QTest.keyClick(editor, Qt.Key.Key_Up if up else Qt.Key.Key_Down)
    return editor.value()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_has_a_field_for_each_setting_and_shows_its_value(kind, form):
    setting = starting(kind)
    form.show_value(setting, setting.fields())
    assert form.value == setting
    assert form.isVisible() == bool(setting.fields())
    for field in setting.fields():
        editor = form.editor(field.name)
        value = getattr(setting, field.name)
        assert editor.toolTip() == wrapped(field.help)
        assert editor.objectName() == f"form_{field.name}"
        assert editor.accessibleName()
        if isinstance(editor, QComboBox):
            assert editor.currentData() == value
            assert [editor.itemData(i) for i in range(editor.count())] == list(field.choices)
        elif isinstance(editor, QCheckBox):
            assert editor.isChecked() == value
        elif isinstance(editor, QSpinBox | QDoubleSpinBox):
            assert value is None or editor.value() == value
            assert field.low is None or editor.minimum() in (field.low, field.low - 1)
        elif field.several:
            assert editor.text() == ", ".join(map(str, value))
        else:
            assert editor.text() == (value or "")


@pytest.mark.parametrize(
    ("kind", "field"), FIELDS, ids=[f"{kind.kind}-{field.name}" for kind, field in FIELDS]
)
def test_each_field_edits_its_own_setting_and_nothing_else(kind, field, form):
    before = starting(kind)
    form.show_value(before, before.fields())
    values = caught(form)
    shown = step(form.editor(field.name))
    assert len(values) == 1
    after = values[0]
    assert getattr(after, field.name) == shown != getattr(before, field.name)
    assert dataclasses.replace(after, **{field.name: getattr(before, field.name)}) == before
    # What the form made is what a plan file holds.
    family = next(family for family in FAMILIES if kind in list(family))
    assert family.parse(after.to_plan()) == after


@pytest.mark.parametrize("field", training_fields(), ids=lambda field: field.name)
def test_the_training_s_fields_round_trip_too(field, form):
    form.show_value(Training(), training_fields())
    values = caught(form)
    shown = step(form.editor(field.name))
    assert getattr(values[-1], field.name) == shown
    assert values[-1] == dataclasses.replace(Training(), **{field.name: shown})


def test_a_number_is_typed_digit_by_digit_but_set_once(form):
    setting = PATTERNS.parse("block:4x4")
    form.show_value(setting, setting.fields())
    values = caught(form)
    box = form.editor("height")
    box.setFocus()
    box.selectAll()
    QTest.keyClicks(box, "16")
    assert values == []
    QTest.keyClick(box, Qt.Key.Key_Return)
    assert [value.to_plan() for value in values] == ["block:16x4"]


def test_small_numbers_keep_their_decimals(form):
    form.show_value(Training(lr=0.00025), training_fields())
    box = form.editor("lr")
    assert box.text() == "0.00025"
    values = caught(form)
    box.selectAll()
    QTest.keyClicks(box, "0.00003\r")
    assert values[-1].lr == 0.00003


def test_an_empty_optional_number_says_auto_and_can_be_emptied_again(form):
    schedule = SCHEDULES.parse("agp")
    end = next(field for field in schedule.fields() if field.name == "end")
    assert optional(end)
    assert base_type(end) is int
    form.show_value(schedule, schedule.fields())
    values = caught(form)
    box = form.editor("end")
    assert box.text() == "auto"
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_Up)
    assert values[-1].end == 1
    QTest.keyClick(box, Qt.Key.Key_Down)
    assert values[-1].end is None
    assert box.text() == "auto"


def test_several_numbers_are_typed_with_commas_and_refused_where_they_are_wrong(form):
    schedule = SCHEDULES.parse("nested")
    form.show_value(schedule, schedule.fields())
    values = caught(form)
    box, problem = form.editor("levels"), form.findChild(QLabel, "form_problem")
    assert box.text() == "0.5, 0.75, 0.9"
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_Return)
    assert values == []
    for typed, said in (
        ("0.5, half", "each of levels must be a number, not 'half'"),
        ("0.5, 1.5", "each of levels must be at most 1, not 1.5"),
        ("0.9, 0.5", "levels must rise, and 0.9 stands before 0.5"),
        ("0.5, 0.5", "levels must rise"),
        ("0.5", "at least two sparsities"),
        ("0.5, 1", "above 0 and below 1"),
        ("", "must be a number"),
    ):
        box.selectAll()
        QTest.keyClick(box, Qt.Key.Key_Delete)
        QTest.keyClicks(box, f"{typed}\r")
        assert values == [], typed
        assert said in problem.text()
        assert problem.isVisible()
        assert box.text() == typed
        assert box.property("invalid") is True
    box.selectAll()
    QTest.keyClicks(box, "0.25,0.625\r")
    assert [value.levels for value in values] == [(0.25, 0.625)]
    assert values[0].to_plan() == {"kind": "nested", "levels": [0.25, 0.625]}
    assert not problem.isVisible()


def test_a_refused_combination_is_explained_in_place_and_changes_nothing(form):
    setting = PATTERNS.parse("nm:2:4")
    form.show_value(setting, setting.fields())
    values = caught(form)
    problem = form.findChild(QLabel, "form_problem")
    assert not problem.isVisible()
    box = form.editor("n")
    box.selectAll()
    QTest.keyClicks(box, "9\r")
    assert values == []
    assert form.value == setting
    assert problem.isVisible()
    assert "N must be at most M" in problem.text()
    assert box.property("invalid") is True
    other = form.editor("m")
    other.selectAll()
    QTest.keyClicks(other, "12\r")
    assert [value.to_plan() for value in values] == ["nm:9:12"]
    assert not problem.isVisible()
    assert box.property("invalid") is False


def test_showing_a_value_emits_nothing_and_swaps_the_fields(form):
    values = caught(form)
    for word in ("nm:1:4", "block:2x8", "group", "nm:2:4"):
        setting = PATTERNS.parse(word)
        form.show_value(setting, setting.fields())
        assert form.value == setting
    assert values == []
    with pytest.raises(KeyError):
        form.editor("height")


def test_the_wheel_scrolls_past_a_field_without_the_focus(form, qtbot):
    setting = PATTERNS.parse("block:4x4")
    form.show_value(setting, setting.fields())
    values = caught(form)
    box = form.editor("height")
    form.activateWindow()
    qtbot.waitUntil(lambda: form.isActiveWindow() and box.isVisible())

    def wheel():
        centre = QPointF(box.rect().center())
        event = QWheelEvent(
            centre, QPointF(box.mapToGlobal(box.rect().center())), QPoint(), QPoint(0, 120),
            Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(box, event)

    form.editor("width").setFocus()
    wheel()
    assert values == []
    box.setFocus()
    wheel()
    assert values[-1].height == 5


def test_a_number_may_be_empty_and_is_stepped_in_and_out_of_that(form):
    setting = SCHEDULES.parse("sparse-training")
    form.show_value(setting, setting.fields())
    values = caught(form)
    box = form.editor("initial")
    assert box.text() == "auto"
    QTest.keyClick(box, Qt.Key.Key_Up)
    assert values[-1].initial == 0.0
    QTest.keyClick(box, Qt.Key.Key_Down)
    assert values[-1].initial is None
    assert box.text() == "auto"
    box.selectAll()
    QTest.keyClicks(box, "0.5")
    QTest.keyClick(box, Qt.Key.Key_Return)
    assert values[-1].initial == 0.5
