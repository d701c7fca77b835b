"""Nested levels by clicks: the plan's field, a run, and the export of all levels or of one."""

from dataclasses import replace

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QComboBox, QDialog, QLabel, QLineEdit, QRadioButton

import secateur
from secateur.engine.criteria import CRITERIA
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Plan, Rule
from secateur.engine.schedules import SCHEDULES
from secateur.studio.plan.model_section import ModelSection
from secateur.studio.runs.export_dialog import ExportDialog


def wait_for(qtbot, condition):
    qtbot.waitUntil(lambda: bool(condition()), timeout=60_000)


def rule():
    return Rule("*", PATTERNS.parse("element"), CRITERIA.parse("magnitude"), 0.5)


@pytest.fixture
def pruned(opened, qtbot):
    """A session whose run has two levels, typed into the plan panel's field."""
    opened.set_plan(Plan(model=opened.address, rules=(rule(),)), "a rule")
    section = ModelSection(opened)
    qtbot.addWidget(section)
    opened.set_plan(replace(opened.plan, schedule=SCHEDULES.parse("nested")), "nested levels")
    section.show_plan(rule())
    section.show()
    field = section.findChild(QLineEdit, "schedule_form_levels")
    assert field.text() == "0.5, 0.75, 0.9"
    field.selectAll()
    QTest.keyClicks(field, "0.9, 0.4\r")
    assert opened.plan.schedule == SCHEDULES.parse("nested")
    assert "must rise" in section.findChild(QLabel, "schedule_form_problem").text()
    field.selectAll()
    QTest.keyClicks(field, "0.4, 0.8\r")
    assert opened.plan.schedule.levels == (0.4, 0.8)
    opened.prune()
    wait_for(qtbot, lambda: opened.report is not None and not opened.busy)
    return opened


def test_all_levels_or_one_are_exported(pruned, qtbot, tmp_path):
    assert [level["sparsity"] for level in pruned.report["levels"]] == [0.4, 0.8]
    page = (pruned.project / "report.html").read_text(encoding="utf-8")
    assert "Nested levels" in page
    dialog = ExportDialog(pruned)
    dialog.show()
    choice = dialog.findChild(QRadioButton, "export_nested")
    QTest.mouseClick(choice, Qt.MouseButton.LeftButton, pos=QPoint(40, 10))
    assert dialog.path.text().endswith(".nested.safetensors")
    assert not dialog.level.isEnabled()

    def written(name):
        pruned.exporting.result = None
        dialog.path.setText(str(tmp_path / name))
        QTest.keyClick(dialog, Qt.Key.Key_Return)
        wait_for(qtbot, lambda: pruned.exporting.result and not pruned.busy)
        assert pruned.exporting.result["equal"] is True
        return tmp_path / name

    path = written("m.nested.safetensors")
    facts = dialog.findChild(QLabel, "export_facts").text()
    assert "of shared weights" in facts
    assert "indices pay off above" in facts
    assert secateur.load_nested(path).levels == (0.4, 0.8)
    choice = dialog.findChild(QRadioButton, "export_compressed")
    QTest.mouseClick(choice, Qt.MouseButton.LeftButton, pos=QPoint(40, 10))
    box = dialog.level.findChild(QComboBox, "export_level")
    assert [box.itemText(index) for index in range(box.count())] == ["40 %", "80 %"]
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_Down)
    size = written("m.compressed.safetensors").stat().st_size
    assert size == pruned.report["levels"][1]["bytes"]
    dialog.reject()


def test_without_levels_there_is_nothing_to_choose(opened, qtbot):
    opened.set_plan(Plan(model=opened.address, rules=(rule(),)), "a rule")
    opened.prune()
    wait_for(qtbot, lambda: opened.report is not None and not opened.busy)
    dialog = ExportDialog(opened)
    dialog.show()
    assert isinstance(dialog, QDialog)
    assert dialog.findChild(QRadioButton, "export_nested") is None
    assert not dialog.level.isVisible()
    dialog.reject()
