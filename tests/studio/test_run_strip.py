import sys
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QPlainTextEdit, QPushButton

from secateur.engine import events
from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo, ModelInfo
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import CRITERIA, Rule
from secateur.studio import theme
from secateur.studio.client import EngineClient
from secateur.studio.run_state import RunState, advance
from secateur.studio.run_strip import RunStrip, duration, status_words
from secateur.studio.session import Session


def layer(path, out):
    gemm = Gemm((out, 64))
    return LayerInfo(path, "Linear", f"{path}.weight", (out, 64), out * 64, "float32", gemm,
                     prunable=True)  # fmt: skip


INFO = ModelInfo(
    "sample:tests", "tests", (layer("a", 10), layer("b", 30), layer("c", 20)), 3840, 15360
)

RUN = [
    events.Started("tests · AGP", 2),
    events.Metric(0, {"dense_accuracy": 0.994}),
    events.Progress(40, 320, "epoch 1 of 8", 84.0),
    events.MaskChanged(40, {"a": 0.1, "b": 0.2}, dropped=1204),
    events.Metric(40, {"loss": 0.3, "accuracy": 0.95, "sparsity": 0.15}),
    events.Progress(120, 320, "epoch 3 of 8", 72.0),
    events.Metric(120, {"loss": 0.081, "accuracy": 0.986, "sparsity": 0.36}),
    events.MaskChanged(120, {"a": 0.3, "b": 0.4}, dropped=300, regrown=7),
    events.Log("checkpoint saved"),
]


@pytest.fixture
def session(qtbot, tmp_path):
    theme.apply(QApplication.instance(), "light")
    made = Session(EngineClient([sys.executable, "-c", ""]), home=tmp_path)
    made._opened(INFO.model, None, {"info": INFO.to_json(), "project": None})
    rule = Rule("", PATTERNS.parse("group"), CRITERIA.parse("magnitude"), 0.6)
    made.set_rule(["a", "b"], rule)
    yield made
    made.close()


@pytest.fixture
def strip(session, qtbot):
    made = RunStrip(session)
    qtbot.addWidget(made)
    made.resize(1100, 172)
    made.show()
    return made


def play(session, recorded, kind="prune", state=None):
    """Give the session a run as the events leave it."""
    state = state or RunState(kind=kind, title="Run 4 · AGP 60 %", state="running")
    for second, event in enumerate(recorded):
        state = advance(state, event, f"12:04:{second:02}")
        session._jobs.run = state
        session.run_changed.emit()
    return state


def text(strip, name):
    return strip.findChild(QLabel, name).text()


def buttons(strip):
    return [b.objectName() for b in strip.findChildren(QPushButton) if b.isVisible()]


def test_idle_is_one_quiet_line(strip):
    assert text(strip, "run_title").startswith("No run yet.")
    assert not strip._panes.isVisible()
    assert strip.maximumHeight() == 40
    assert buttons(strip) == []


def test_a_run_shows_where_it_is(strip, session):
    play(session, RUN)
    assert text(strip, "run_title") == "Run 4 · AGP 60 %"
    assert text(strip, "run_words") == "epoch 3 of 8 · 1 min 12 s left"
    assert strip._progress.fraction == 120 / 320
    assert strip._panes.isVisible()
    assert strip.maximumHeight() > 10_000
    assert buttons(strip) == ["run_pause", "run_cancel"]
    assert text(strip, "accuracy_value") == "98.6 % · dense 99.4 %"
    assert strip._curve._accuracy == [(40, 0.95), (120, 0.986)]
    assert strip._curve._loss == [(40, 0.3), (120, 0.081)]
    assert strip._curve._end == 320


def test_bars_are_the_plan_s_layers_with_what_is_asked(strip, session):
    play(session, RUN)
    assert [(bar.path, bar.value, bar.asked) for bar in strip._bars.bars] == [
        ("a", 0.3, 0.6),
        ("b", 0.4, 0.6),
    ]
    # Weighted by size: (0.3 * 640 + 0.4 * 1920) / 2560.
    assert text(strip, "layers_value") == "37.5 % now, 60 % asked"
    assert strip._bars.bar_at(30).path == "b"
    assert strip._bars.bar_at(500) is None
    QTest.mouseClick(strip._bars, Qt.MouseButton.LeftButton, pos=QPoint(30, 20))
    assert session.selection == ("b",)


def test_the_strip_keeps_the_plan_that_runs(strip, session):
    play(session, RUN)
    session.set_rule(["a", "b"], None)
    play(session, [events.Log("later")], state=session.run)
    assert [bar.asked for bar in strip._bars.bars] == [0.6, 0.6]


def test_at_the_end_bars_show_what_the_report_says_was_requested(strip, session):
    session.report = {
        "layers": [{"path": "a", "requested": 0.5}, {"path": "b", "requested": 0.7}],
        "accuracy": {"dense": 0.994, "pruned": 0.98},
    }
    play(session, [*RUN, events.Finished({})])
    assert [bar.asked for bar in strip._bars.bars] == [0.5, 0.7]


def test_one_shot_shows_the_accuracy_of_the_report(strip, session):
    session.report = {"layers": [], "accuracy": {"dense": 0.994, "pruned": 0.98}}
    play(session, [RUN[0], RUN[1], events.Finished({})])
    assert text(strip, "accuracy_value") == "98.0 % · dense 99.4 %"


def test_the_log_grows_and_follows_only_at_the_end(strip, session):
    log = strip.findChild(QPlainTextEdit, "run_log")
    state = play(session, RUN)
    assert log.toPlainText().splitlines()[-1] == "12:04:08  checkpoint saved"
    assert "masks: 300 weights dropped, 7 regrown" in log.toPlainText()
    many = [events.Log(f"line {index}") for index in range(60)]
    state = play(session, many, state=state)
    bar = log.verticalScrollBar()
    assert bar.maximum() > 0
    assert bar.value() == bar.maximum()
    bar.setValue(0)
    state = play(session, [events.Log("while reading above")], state=state)
    assert bar.value() == 0
    lines = log.toPlainText().splitlines()
    assert lines[-1].endswith("while reading above")
    assert len(lines) == len(state.log)
    # Far more than a log keeps: the end is still there, once.
    state = play(session, [events.Log(f"more {index}") for index in range(500)], state=state)
    assert log.toPlainText().splitlines()[-1].endswith("more 499")
    assert log.blockCount() <= 400
    play(session, [events.Log("of another run")])
    assert log.toPlainText() == "12:04:00  of another run"


def test_a_failed_run_says_why_and_offers_a_way_on(strip, session):
    reason = "The engine was ended by SIGKILL, which is what a system short of memory does."
    play(session, [*RUN, events.Failed(reason)])
    words = strip.findChild(QLabel, "run_words")
    assert words.text() == reason
    assert words.property("role") == "error"
    assert words.palette().windowText().color().name() == theme.LIGHT.rose
    assert not strip._progress.isVisible()
    assert buttons(strip) == ["run_restart", "run_again"]
    again = strip.findChild(QPushButton, "run_again")
    assert not again.isEnabled()
    assert again.toolTip() == session.why_not("prune")


def test_a_finished_run_offers_its_results(strip, session, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    session.project, session.report = tmp_path, {"layers": [], "accuracy": None}
    play(session, [*RUN, events.Finished({})])
    assert buttons(strip) == ["run_folder", "run_report", "run_again"]
    assert text(strip, "run_words") == "done"
    for name in ("run_folder", "run_report"):
        QTest.mouseClick(strip.findChild(QPushButton, name), Qt.MouseButton.LeftButton)
    assert opened == [
        QUrl.fromLocalFile(str(tmp_path)),
        QUrl.fromLocalFile(str(tmp_path / "report.html")),
    ]


def test_pausing_and_cancelling_ask_the_session(strip, session, monkeypatch):
    asked = []
    monkeypatch.setattr(session._jobs, "pause", asked.append)
    play(session, RUN)
    pause = strip.findChild(QPushButton, "run_pause")
    QTest.mouseClick(pause, Qt.MouseButton.LeftButton)
    session._jobs.run = RunState(kind="prune", title="Run 4", state="paused", total=10, done=2)
    session.run_changed.emit()
    assert pause.text() == "Go on"
    assert text(strip, "run_words") == "paused"
    QTest.mouseClick(pause, Qt.MouseButton.LeftButton)
    assert asked == [True, False]


def test_folding_away_keeps_the_head(strip, session):
    play(session, RUN)
    QTest.mouseClick(strip._fold, Qt.MouseButton.LeftButton)
    assert not strip._panes.isVisible()
    assert strip.maximumHeight() == 40
    assert text(strip, "run_words").startswith("epoch 3")
    QTest.mouseClick(strip._fold, Qt.MouseButton.LeftButton)
    assert strip._panes.isVisible()


def test_measuring_shows_speed_instead_of_sparsity(strip, session):
    cells = [
        {"layer": path, "pattern": "group", "kept": 0.4, "dense_ms": 1.0, "ms": ms,
         "speedup": 1 / ms, "ran": "group"}
        for path, ms in (("a", 2.0), ("b", 0.5))
    ]  # fmt: skip
    session._add_cells(cells, of_run=False)
    play(session, [events.Started("Measure, batch 1", 3), events.Progress(1, 3, "b")], "measure")
    assert [(bar.path, bar.value, bar.asked) for bar in strip._bars.bars] == [
        ("a", 0.5, 1.0),
        ("b", 2.0, 1.0),
    ]
    assert text(strip, "layers_value") == "1 of 2 faster"
    assert not strip._curve_pane.isVisible()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (72, "1 min 12 s"),
        (3599.6, "1 h 00 min"),
        (7384, "2 h 03 min"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_status_words_of_every_end():
    assert status_words(RunState(state="done", text="x")) == "done"
    assert status_words(RunState(state="failed", error="no disk")) == "no disk"
    assert "kept" in status_words(RunState(state="cancelled"))
    assert status_words(RunState(state="running", text="conv1")) == "conv1"


@pytest.mark.parametrize("look", ["dark", "light"])
def test_plots_paint_in_both_themes(look, strip, session):
    theme.apply(QApplication.instance(), look)
    play(session, RUN)
    colours = theme.current()
    picture = strip._bars.grab().toImage()
    shown = {
        picture.pixelColor(x, y).name()
        for x in range(60)
        for y in range(picture.height())
    }  # fmt: skip
    assert colours.amber in shown
    assert Path(theme.RESOURCES / "themes" / look).is_dir()
    curve = strip._curve.grab().toImage()
    assert any(
        curve.pixelColor(x, y).name() == colours.blue
        for x in range(curve.width())
        for y in range(curve.height())
    )
