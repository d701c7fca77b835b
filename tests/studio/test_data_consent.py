"""A plan that names a loader of someone's own: the window asks before a run calls it."""

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QMessageBox, QPushButton

from secateur.engine.plan import Plan

LOADER = "secateur.resources.samples.digits:read"


def wait_for(qtbot, condition):
    qtbot.waitUntil(lambda: bool(condition()), timeout=60_000)


def ask(window, session, qtbot):
    """Press Prune; the box that asks."""
    session.prune()
    wait_for(qtbot, lambda: window.findChild(QMessageBox, "consent_dialog"))
    assert not session.busy
    assert session.report is None
    return window.findChild(QMessageBox, "consent_dialog")


def test_a_loader_is_asked_about_once_and_no_is_the_default(window, opened, qtbot):
    session = opened
    wait_for(qtbot, lambda: window.canvas is not None)
    rule = {"layers": "fc", "pattern": "element", "sparsity": 0.5}
    plan = Plan.from_json({"rules": [rule], "training": {"data": LOADER, "epochs": 0}})
    session.set_plan(plan, "a plan from outside")
    box = ask(window, session, qtbot)
    assert box.defaultButton().objectName() == "consent_no"
    assert LOADER in box.informativeText()
    QTest.keyClick(box, Qt.Key.Key_Return)
    wait_for(qtbot, lambda: window.findChild(QMessageBox, "consent_dialog") is None)
    assert not session.can_resume, "nothing has begun"
    box = ask(window, session, qtbot)
    QTest.mouseClick(box.findChild(QPushButton, "consent_yes"), Qt.MouseButton.LeftButton)
    wait_for(qtbot, lambda: session.report is not None and not session.busy)
    first = session.project
    session.prune()
    wait_for(qtbot, lambda: session.project != first and not session.busy)
    assert window.findChild(QMessageBox, "consent_dialog") is None
