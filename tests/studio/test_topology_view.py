"""The Topology tab by its pixels and words, with a recorded engine."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QPoint, QPointF, Qt
from PySide6.QtTest import QTest

from secateur.engine.gemm import Gemm
from secateur.studio.canvas import Canvas, colormaps, marks
from secateur.studio.canvas.input_counts import InputCounts
from secateur.studio.look import theme
from secateur.studio.state.run_state import RunState

sys.path.append(str(Path(__file__).parent))
from recorded import LINEAR, recorded_session

SMALL = Gemm((6, 12))


def masks():
    """A mask before and after one evolution step: row 1 loses column 2 and gains column 5."""
    before = np.zeros((6, 12), bool)
    before[:, 1:3] = True
    before[4] = False
    after = before.copy()
    after[1, 2], after[1, 5] = False, True
    return before, after


@pytest.fixture
def make(qapp, qtbot, tmp_path):
    """A canvas on its Topology tab, over a run that has masks; `session` hangs on it."""
    theme.apply(qapp, "dark")
    made = []

    def build(gemms, kept=None, before=None, ran=True):
        session = recorded_session(tmp_path / "home", gemms, None, kept)
        session.client.before = before or {}
        session.report = {"layers": []} if ran else None
        canvas = Canvas(session)
        canvas.session = session
        canvas.resize(800, 600)
        canvas.show()
        canvas.show_tab("Topology")
        made.append(canvas)
        settle(qtbot, canvas)
        return canvas

    yield build
    for canvas in made:
        canvas.close()
        canvas.deleteLater()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        canvas.session.close()


def settle(qtbot, canvas):
    matrix, view = canvas.topology.matrix, canvas.topology

    def quiet():
        askers = (matrix._tiles, matrix._wholes, matrix._values, view._asker)
        timers = (matrix._rest, matrix._hovering)
        return all(a.idle for a in askers) and not any(t.isActive() for t in timers)

    qtbot.waitUntil(quiet, timeout=10_000)


def pixel_of(canvas, row, column):
    matrix = canvas.topology.matrix
    stage, camera = matrix.stage(), matrix.camera
    wide, high = camera.scale
    return QPoint(int(stage.left() + camera.x(column) + wide / 2),
                  int(stage.top() + camera.y(row) + high / 2))  # fmt: skip


def colour(canvas, row, column):
    picture = canvas.topology.matrix.grab().toImage()
    return picture.pixelColor(pixel_of(canvas, row, column)).name()


@pytest.mark.parametrize("name", ["dark", "light"])
def test_kept_grown_and_dropped_weights_have_their_own_colours(make, qapp, qtbot, name):
    before, after = masks()
    canvas = make({"fc": SMALL}, {"fc": after}, {"fc": before})
    theme.apply(qapp, name)
    empty, kept, grown, dropped = colormaps.evolution(theme.current())
    assert len({empty, kept, grown, dropped}) == 4
    assert colour(canvas, 0, 1) == kept
    assert colour(canvas, 1, 2) == dropped
    assert colour(canvas, 1, 5) == grown
    assert colour(canvas, 4, 1) == colour(canvas, 0, 9) == empty


def test_the_figures_beside_it_count_the_layer(make, qtbot):
    before, after = masks()
    canvas = make({"fc": SMALL}, {"fc": after}, {"fc": before})
    view = canvas.topology
    assert view.side.isVisible()
    assert view.figure("kept") == "10 · 13.9 %"
    assert (view.figure("grown"), view.figure("dropped")) == ("1", "1")
    assert view.figure("unread") == "9 of 12"
    assert view.figure("dead") == "1 of 6"
    assert view.figure("evolution") == "none"
    canvas.session.client.evolution = (14, 345)
    canvas.session.masks_changed.emit()
    settle(qtbot, canvas)
    assert view.figure("evolution") == "14 · step 345"


def test_a_cell_says_what_became_of_its_weight(make, qtbot):
    before, after = masks()
    canvas = make({"fc": SMALL}, {"fc": after}, {"fc": before})
    matrix = canvas.topology.matrix
    weights = canvas.session.client.matrices["fc"]
    kept, grown = marks.number(float(weights[0, 1])), marks.number(float(weights[1, 5]))
    expected = {
        (0, 1): (kept, "kept"),
        (1, 5): (grown, "grown"),
        (1, 2): ("no weight", "dropped"),
        (3, 9): ("no weight", ""),
    }
    for cell, words in expected.items():
        QTest.mouseMove(matrix, pixel_of(canvas, *cell))
        settle(qtbot, canvas)
        assert matrix.hover == cell
        assert matrix._cell_words(matrix.value) == words


def test_every_step_of_a_run_is_followed_and_the_last_one_stays(make, qtbot, monkeypatch):
    before, after = masks()
    canvas = make({"fc": SMALL}, {"fc": before}, {"fc": before}, ran=False)
    session, client = canvas.session, canvas.session.client
    running = RunState(kind="prune", title="Run 1", state="running")
    monkeypatch.setattr(session._jobs, "run", running)
    session.masks_changed.emit()
    assert canvas.topology.matrix._remark().head == "No topology yet"
    monkeypatch.setattr(session._jobs, "run", replace(running, sparsity={"fc": 0.8}))
    session.masks_changed.emit()
    settle(qtbot, canvas)
    assert canvas.topology.figure("grown") == "0"
    client.hold = True
    session.masks_changed.emit()  # this question is under way while the masks become others
    qtbot.wait(100)
    client.masks["fc"] = after
    for _ in range(5):
        session.masks_changed.emit()
    client.hold = False
    while client._held:
        client.release()
    settle(qtbot, canvas)
    assert canvas.topology.figure("grown") == "1"
    assert colour(canvas, 1, 5) == colormaps.evolution(theme.current())[2]


def test_it_says_why_there_is_nothing_and_asks_nothing(make, qtbot):
    canvas = make({"fc": SMALL}, ran=False)
    remark = canvas.topology.matrix._remark()
    assert remark.head == "No topology yet"
    assert not canvas.topology.side.isVisible()
    assert not [m for m, p in canvas.session.client.asked if m == "topology"]
    assert not [p for m, p in canvas.session.client.asked if p.get("view") == "topology"]


def test_the_engines_reason_is_shown(make, qtbot):
    canvas = make({"fc": SMALL})
    canvas.session.client.fail = "fc has no mask: the plan leaves it dense"
    canvas.session.masks_changed.emit()
    settle(qtbot, canvas)
    assert canvas.topology.matrix._remark().text == "fc has no mask: the plan leaves it dense"
    assert not canvas.topology.side.isVisible()


def test_a_hidden_tab_asks_nothing(make, qtbot):
    canvas = make({"fc": SMALL})
    canvas.show_tab("Weights")
    settle(qtbot, canvas)
    canvas.session.client.asked.clear()
    canvas.session.masks_changed.emit()
    qtbot.wait(80)
    asked = canvas.session.client.asked
    assert not [m for m, p in asked if m == "topology" or p.get("view") == "topology"]


def test_keys_zoom_and_fit_as_in_the_matrix(make, qtbot):
    canvas = make({"fc": Gemm((200, 300))})
    matrix = canvas.topology.matrix
    QTest.keyClick(matrix, Qt.Key.Key_Plus)
    QTest.keyClick(matrix, Qt.Key.Key_Plus)
    assert not matrix.camera.fits
    settle(qtbot, canvas)
    assert matrix.tile().rect != (0, 0, 200, 300)
    canvas.fit()
    assert matrix.camera.fits


def test_pixels_stand_where_they_do_in_the_image(make, qtbot):
    kept = np.zeros((10, 64), bool)
    kept[:4, 9] = True  # row 1, column 1
    kept[:, 63] = True
    canvas = make({"fc": LINEAR}, {"fc": kept})
    canvas.session.client.images["fc"] = [8, 8]
    canvas.session.masks_changed.emit()
    settle(qtbot, canvas)
    inputs = canvas.topology.inputs
    area = inputs.area()
    assert area.width() == area.height()
    place = QPointF(area.width() * 1.5 / 8, area.height() * 1.5 / 8)
    assert inputs.words_at(place) == "pixel at row 1, column 1: read by 4 of 10 outputs"
    corner = QPointF(area.width() - 2, area.height() - 2)
    assert inputs.words_at(corner) == "pixel at row 7, column 7: read by 10 of 10 outputs"
    picture = inputs.grab().toImage()
    ground = colormaps.pruned(theme.current())
    assert picture.pixelColor(4, 4).name() == ground
    assert picture.pixelColor(corner.toPoint() - QPoint(4, 4)).name() == "#ffe945"


def test_other_inputs_stand_in_a_strip(qtbot):
    inputs = InputCounts()
    qtbot.addWidget(inputs)
    counts = np.array([3, 0, 1] * 200, np.int32)
    inputs.show_counts(counts, (7, 7), 12)  # no image of this many inputs
    inputs.resize(216, 160)
    inputs.show()
    assert inputs.accessibleName() == "600 inputs, 200 read by no output"
    assert inputs.words_at(QPointF(0.1, 50)) == "input 0: read by 3 of 12 outputs"
    assert inputs.words_at(QPointF(215.9, 50)) == "input 599: read by 1 of 12 outputs"
    assert inputs.words_at(QPointF(100, 158)) == ""
