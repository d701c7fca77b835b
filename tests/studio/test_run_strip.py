import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QPushButton, QTextEdit

from secateur.engine import events
from secateur.engine.criteria import CRITERIA
from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo, ModelInfo
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Rule, Training
from secateur.studio.look import theme
from secateur.studio.runs.mask_plot import tip_at
from secateur.studio.runs.run_strip import RunStrip
from secateur.studio.runs.words import duration, status_words
from secateur.studio.state.client import EngineClient
from secateur.studio.state.past_run import steps_per_epoch
from secateur.studio.state.run_state import RunState, advance
from secateur.studio.state.session import Session

sys.path.append(str(Path(__file__).parent))
import measured


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
    made.opening.opened.emit({"info": INFO.to_json(), "project": None}, None)
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
    assert not strip.panes.isVisible()
    assert strip.maximumHeight() == 40
    assert buttons(strip) == []


def test_a_run_shows_where_it_is(strip, session):
    play(session, RUN)
    assert text(strip, "run_title") == "Run 4 · AGP 60 %"
    assert text(strip, "run_words") == "epoch 3 of 8 · 1 min 12 s left"
    assert strip.head.progress.fraction == 120 / 320
    assert strip.panes.isVisible()
    assert strip.maximumHeight() > 10_000
    assert buttons(strip) == ["run_pause", "run_cancel"]
    assert text(strip, "accuracy_value") == "98.6 % · dense 99.4 %"
    assert strip.curves.accuracy._accuracy == [(40, 0.95), (120, 0.986)]
    assert strip.curves.accuracy._loss == [(40, 0.3), (120, 0.081)]
    assert strip.curves.accuracy._end == 320


def test_bars_are_the_plan_s_layers_with_what_is_asked(strip, session):
    play(session, RUN)
    assert [(bar.path, bar.value, bar.asked) for bar in strip.layers.bars.bars] == [
        ("a", 0.3, 0.6),
        ("b", 0.4, 0.6),
    ]
    # Weighted by size: (0.3 * 640 + 0.4 * 1920) / 2560.
    assert text(strip, "layers_value") == "37.5 % now, 60.0 % asked"
    assert strip.layers.bars.bar_at(30).path == "b"
    assert strip.layers.bars.bar_at(500) is None
    QTest.mouseClick(strip.layers.bars, Qt.MouseButton.LeftButton, pos=QPoint(30, 20))
    assert session.selection == ("b",)


def test_the_strip_keeps_the_plan_that_runs(strip, session):
    play(session, RUN)
    session.set_rule(["a", "b"], None)
    play(session, [events.Log("later")], state=session.run)
    assert [bar.asked for bar in strip.layers.bars.bars] == [0.6, 0.6]


def test_at_the_end_bars_show_what_the_report_says_was_requested(strip, session):
    session.report = {
        "layers": [{"path": "a", "requested": 0.5}, {"path": "b", "requested": 0.7}],
        "accuracy": {"dense": 0.994, "pruned": 0.98},
    }
    play(session, [*RUN, events.Finished({})])
    assert [bar.asked for bar in strip.layers.bars.bars] == [0.5, 0.7]


def test_one_shot_shows_the_accuracy_of_the_report(strip, session):
    session.report = {"layers": [], "accuracy": {"dense": 0.994, "pruned": 0.98}}
    play(session, [RUN[0], RUN[1], events.Finished({})])
    assert text(strip, "accuracy_value") == "98.0 % · dense 99.4 %"


def test_the_log_grows_and_follows_only_at_the_end(strip, session):
    log = strip.findChild(QTextEdit, "run_log")
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
    assert log.document().blockCount() <= 400
    play(session, [events.Log("of another run")])
    assert log.toPlainText() == "12:04:00  of another run"


def test_a_failed_run_says_why_and_offers_a_way_on(strip, session):
    reason = "The engine was ended by SIGKILL, which is what a system short of memory does."
    play(session, [*RUN, events.Failed(reason)])
    words = strip.findChild(QLabel, "run_words")
    assert words.text() == reason
    assert words.property("role") == "error"
    assert words.palette().windowText().color().name() == theme.LIGHT.rose
    assert not strip.head.progress.isVisible()
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
    QTest.mouseClick(strip.head.fold, Qt.MouseButton.LeftButton)
    assert not strip.panes.isVisible()
    assert strip.maximumHeight() == 40
    assert text(strip, "run_words").startswith("epoch 3")
    QTest.mouseClick(strip.head.fold, Qt.MouseButton.LeftButton)
    assert strip.panes.isVisible()


def test_measuring_shows_speed_instead_of_sparsity(strip, session):
    cells = [measured.cell(path, "group", 0.4, 1.0, ms) for path, ms in (("a", 2.0), ("b", 0.5))]
    session.measuring.found.add(cells, of_run=False)
    play(session, [events.Started("Measure, batch 1", 3), events.Progress(1, 3, "b")], "measure")
    assert [(bar.path, bar.value, bar.asked) for bar in strip.layers.bars.bars] == [
        ("a", 0.5, 1.0),
        ("b", 2.0, 1.0),
    ]
    assert text(strip, "layers_value") == "1 of 2 faster"
    assert not strip.curves.panes[0].isVisible()


def test_a_measurement_that_found_nothing_does_not_go_on_measuring(strip, session):
    bars = strip.layers.bars
    state = play(session, [events.Started("Measure, batch 1", 3)], "measure")
    assert bars.accessibleName() == "Measuring…"
    play(session, [events.Cancelled()], state=state)
    assert bars.accessibleName() == "Nothing was measured."


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
    picture = strip.layers.bars.grab().toImage()
    shown = {
        picture.pixelColor(x, y).name()
        for x in range(60)
        for y in range(picture.height())
    }  # fmt: skip
    assert colours.amber in shown
    assert Path(theme.RESOURCES / "themes" / look).is_dir()
    curve = strip.curves.accuracy.grab().toImage()
    assert any(
        curve.pixelColor(x, y).name() == colours.blue
        for x in range(curve.width())
        for y in range(curve.height())
    )


CURVES = [
    events.Started("tests · DST", 2),
    events.Metric(0, {"dense_accuracy": 0.994}),
    events.Progress(40, 320, "epoch 1 of 8", 84.0),
    events.Metric(40, {"dropped": 900, "regrown": 0, "loss": 0.3, "accuracy": 0.95,
                       "sparsity": 0.15, "threshold": 0.2}),
    events.Metric(80, {"dropped": 300, "regrown": 7, "loss": 0.2, "accuracy": 0.96,
                       "sparsity": 0.36, "threshold": 0.5}),
]  # fmt: skip


def pixels(strip, role):
    """How many pixels of a plot have a colour of the theme."""
    picture, wanted = strip.curves.masks.grab().toImage(), theme.theme_of(strip).colour(role).name()
    return sum(
        picture.pixelColor(x, y).name() == wanted
        for x in range(picture.width())
        for y in range(picture.height())
    )


def test_sparsity_churn_and_the_schedule_s_number_are_plotted(strip, session, qtbot):
    play(session, CURVES)
    qtbot.wait(20)
    assert strip.curves.panes[1].isVisible()
    assert strip.curves.panes[0].isVisible()
    assert text(strip, "masks_value") == "36.0 % · threshold 0.5"
    assert strip.curves.masks.points("threshold") == [(40, 0.2), (80, 0.5)]
    assert strip.curves.masks.points("dropped") == [(40, 900), (80, 300)]
    assert "regrown 7" in strip.curves.masks.accessibleName()
    assert pixels(strip, "leaf") > 20
    assert text(strip, "run_words").endswith("left")
    assert buttons(strip)[:2] == ["run_pause", "run_cancel"]
    told = tip_at(session.run.metrics, 0.2, 320)
    assert told.splitlines()[:2] == ["step 80", "dropped 300"]
    assert "accuracy 96.0 %" in told


def test_a_narrow_strip_shows_one_curve_and_leads_to_the_other(strip, session, qtbot):
    strip.resize(900, 172)
    play(session, CURVES)
    qtbot.wait(20)
    assert strip.curves.panes[0].isVisible()
    assert not strip.curves.panes[1].isVisible()
    QTest.mouseClick(strip.findChild(QPushButton, "show_masks"), Qt.MouseButton.LeftButton)
    assert strip.curves.panes[1].isVisible()
    assert not strip.curves.panes[0].isVisible()
    QTest.mouseClick(strip.findChild(QPushButton, "show_accuracy"), Qt.MouseButton.LeftButton)
    assert strip.curves.panes[0].isVisible()
    assert {"run_pause", "run_cancel"} <= set(buttons(strip))
    strip.resize(1100, 172)
    qtbot.waitUntil(strip.curves.panes[1].isVisible)
    assert "show_masks" not in buttons(strip)


def test_a_run_without_training_has_no_plot_of_masks(strip, session):
    play(session, RUN[:2])
    assert not strip.curves.panes[1].isVisible()
    assert "show_masks" not in buttons(strip)


REPORT = {
    "layers": [{"path": "a", "requested": 0.6, "achieved": 0.59}],
    "accuracy": {"dense": 0.994, "pruned": 0.96},
    "steps": 80,
    "seconds": 3.21,
    "plan": {"version": 1, "rules": [], "training": {"batch": 32}},
    "notes": ["a keeps 1 empty output"],
    "sparsity": 0.59,
    "bytes": {"dense": 10, "compressed": 5},
    "history": [{"step": event.step, **event.values} for event in CURVES[3:]],
}


def test_the_curves_of_a_project_s_run_are_there_when_it_is_opened(strip, session, tmp_path):
    project = {"plan": session.plan.to_json(), "report": REPORT, "path": str(tmp_path)}
    session.opening.opened.emit({"info": INFO.to_json(), "project": project}, None)
    assert text(strip, "run_title") == "Last run · group 60 %"
    assert strip.panes.isVisible()
    assert strip.curves.accuracy._accuracy == [(40, 0.95), (80, 0.96)]
    assert text(strip, "accuracy_value") == "96.0 % · dense 99.4 %"
    assert strip.curves.masks.points("threshold") == [(40, 0.2), (80, 0.5)]
    first = strip.layers.bars.bars[0]
    assert (first.path, first.value, first.asked) == ("a", 0.59, 0.6)
    log = strip.findChild(QTextEdit, "run_log").toPlainText()
    assert log.splitlines() == ["a keeps 1 empty output", "80 training steps in 3.2 s"]
    assert {"run_report", "run_again"} <= set(buttons(strip))
    session.opening.opened.emit({"info": INFO.to_json(), "project": None}, None)
    assert text(strip, "run_title").startswith("No run yet.")


def test_how_long_a_pass_over_the_data_is_known_from_the_last_run(session):
    plan = session.plan
    assert steps_per_epoch(replace(plan, training=Training(batch=32)), REPORT) == 40
    assert steps_per_epoch(replace(plan, training=Training(batch=64)), REPORT) is None
    assert steps_per_epoch(replace(plan, training=Training(batch=32)), None) is None
    assert steps_per_epoch(plan, REPORT) is None


def test_a_report_of_an_older_version_opens_without_curves(strip, session, tmp_path):
    old = {key: value for key, value in REPORT.items() if key != "history"}
    project = {"plan": session.plan.to_json(), "report": old, "path": str(tmp_path)}
    session.opening.opened.emit({"info": INFO.to_json(), "project": project}, None)
    assert text(strip, "accuracy_value") == "96.0 % · dense 99.4 %"
    assert not strip.curves.panes[1].isVisible()
