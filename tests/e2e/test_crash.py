"""The engine is killed in the middle of a run; the window, the plan and the work survive."""

import os
import signal
from dataclasses import replace

import psutil
import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QSettings, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPushButton

from secateur.engine.plan import Plan, Training
from secateur.engine.schedules import SCHEDULES
from secateur.studio.look import theme
from secateur.studio.state.client import EngineClient
from secateur.studio.state.session import Session
from secateur.studio.window import MainWindow

SAMPLE = "sample:digits-resnet"


def wait_for(qtbot, condition, timeout=90_000):
    qtbot.waitUntil(lambda: bool(condition()), timeout=timeout)


@pytest.fixture
def window(qtbot, qapp, tmp_path):
    theme.apply(qapp, "dark")
    session = Session(EngineClient(), home=tmp_path / "home")
    settings = QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)
    made = MainWindow(session, settings)
    session.client.start()
    made.show()
    yield made
    made.close()
    made.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def long_plan():
    rule = {"layers": "*", "pattern": "element", "sparsity": 0.9}
    return replace(
        Plan.from_json({"model": SAMPLE, "rules": [rule]}),
        schedule=SCHEDULES.parse({"kind": "agp", "every": 5}),
        training=Training(epochs=24),
    )


def click(window, name):
    button = window.findChild(QPushButton, name)
    assert button is not None, name
    assert button.isEnabled(), button.toolTip()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def masks(session):
    return (session.project / "masks.safetensors").read_bytes()


def test_a_killed_engine_comes_back_and_the_run_resumes_to_the_same_masks(window, qtbot):
    session = window.session
    session.open(SAMPLE)
    wait_for(qtbot, lambda: session.info is not None and not session.busy)
    session.set_plan(long_plan(), "a long run")
    plan, pid = session.plan, session.client.hello["pid"]

    click(window, "prune_button")
    out = session.pruning.interrupted[0]
    wait_for(qtbot, lambda: (out / "checkpoint.pt").exists() or not session.run.active)
    assert session.run.active, session.run
    os.kill(pid, signal.SIGKILL)

    wait_for(qtbot, lambda: window.notice.isVisible())
    assert window.isVisible()
    assert window.notice.level == "error"
    assert "SIGKILL" in window.notice.text
    assert session.run.state == "failed"
    assert "SIGKILL" in session.run.error
    assert session.plan == plan

    click(window, "notice_resume")
    wait_for(qtbot, lambda: session.run.active)
    assert session.engine_state == "ready"
    assert session.client.hello["pid"] != pid
    assert not psutil.pid_exists(pid)
    wait_for(qtbot, lambda: not session.run.active)
    assert session.run.state == "done", session.run.error
    assert any("resumed from the checkpoint" in text for _, text in session.run.log)
    assert session.project == out
    resumed = masks(session)

    click(window, "prune_button")
    wait_for(qtbot, lambda: not session.run.active and session.project != out)
    assert session.run.state == "done", session.run.error
    assert masks(session) == resumed


def test_an_engine_that_dies_again_and_again_is_not_restarted_for_ever(window, qtbot):
    session = window.session
    for _ in range(3):
        wait_for(qtbot, lambda: session.engine_state == "ready")
        os.kill(session.client.hello["pid"], signal.SIGKILL)
        wait_for(qtbot, lambda: session.engine_state != "ready")
    assert session.engine_state == "failed"
    assert "The plan is safe" in window.notice.text
    click(window, "notice_restart")
    wait_for(qtbot, lambda: session.engine_state == "ready")


def test_closing_the_window_in_the_middle_of_a_run_leaves_no_process(window, qtbot):
    session = window.session
    session.open(SAMPLE)
    wait_for(qtbot, lambda: session.info is not None and not session.busy)
    session.set_plan(long_plan(), "a long run")
    click(window, "prune_button")
    wait_for(qtbot, lambda: session.run.done > 3)
    pid = session.client.hello["pid"]
    window.close()
    assert not psutil.pid_exists(pid)
    assert session.home.kept_plan(session.address) == session.plan
