"""The canvas by real mouse and keys: what its pixels show, with recorded and with real engine."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QToolButton

from secateur.engine.criteria import CRITERIA
from secateur.engine.gemm import Gemm
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Rule
from secateur.studio.canvas import Canvas, colormaps
from secateur.studio.canvas.looks import Look
from secateur.studio.look import theme
from secateur.studio.state.run_state import RunState

sys.path.append(str(Path(__file__).parent))
from recorded import CONV, LINEAR, recorded_session


def hexed(colour):
    return "#{:02x}{:02x}{:02x}".format(*colour)


def rule(pattern, sparsity=0.5):
    return Rule("*", PATTERNS.parse(pattern), CRITERIA.parse("magnitude"), sparsity)


def shut(canvas):
    canvas.close()
    canvas.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.fixture
def make(qapp, qtbot, tmp_path):
    """A canvas of 800 x 700 on a recorded engine; `session` and `client` hang on it."""
    theme.apply(qapp, "dark")
    made = []

    def build(gemms, matrices=None, masks=None):
        session = recorded_session(tmp_path / "home", gemms, matrices, masks)
        canvas = Canvas(session)
        canvas.session, canvas.client = session, session.client
        canvas.resize(800, 700)
        canvas.show()
        made.append(canvas)
        settle(qtbot, canvas)
        return canvas

    yield build
    for canvas in made:
        shut(canvas)
        canvas.session.close()


def settle(qtbot, canvas):
    """Wait until every question is answered."""
    matrix = canvas.matrix

    def quiet():
        askers = (matrix._tiles, matrix._wholes, matrix._values)
        timers = (matrix._rest, matrix._hovering)
        return all(a.idle for a in askers) and not any(t.isActive() for t in timers)

    qtbot.waitUntil(quiet, timeout=10_000)


def image(canvas):
    return canvas.matrix.grab().toImage()


def pixel_of(canvas, row, column):
    """The middle of a cell, in the matrix view's pixels."""
    matrix = canvas.matrix
    stage, camera = matrix.stage(), matrix.camera
    wide, high = camera.scale
    return QPoint(int(stage.left() + camera.x(column) + wide / 2),
                  int(stage.top() + camera.y(row) + high / 2))  # fmt: skip


def colour(canvas, row, column):
    return image(canvas).pixelColor(pixel_of(canvas, row, column)).name()


def wheel(canvas, steps, at):
    matrix, place = canvas.matrix, QPointF(*at)
    event = QWheelEvent(
        place, QPointF(matrix.mapToGlobal(place.toPoint())), QPoint(), QPoint(0, 120 * steps),
        Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase,
        False,
    )  # fmt: skip
    QCoreApplication.sendEvent(matrix, event)


SMALL = Gemm((6, 12))


def small():
    """|w| grows along the columns, so that half of them by group are the left ones."""
    return np.tile(np.linspace(0.1, 1.2, 12, dtype="f4"), (6, 1))


@pytest.mark.parametrize("name", ["dark", "light"])
def test_pruned_columns_are_gone_and_kept_ones_keep_their_colour(make, qtbot, qapp, name):
    canvas = make({"fc": SMALL}, {"fc": small()})
    theme.apply(qapp, name)
    canvas.session.set_rule(["fc"], rule("group", 0.5))
    settle(qtbot, canvas)
    ground = colormaps.pruned(theme.current())
    colours = Look().colour_map(theme.current())
    shades = np.linspace(0, 255, 12).round().astype(int)
    for row in (0, 5):
        for column in range(12):
            expected = ground if column < 6 else hexed(colours[shades[column]])
            assert colour(canvas, row, column) == expected


def test_a_slider_previews_at_once_and_dense_shows_all(make, qtbot):
    canvas = make({"fc": SMALL}, {"fc": small()})
    ground = colormaps.pruned(theme.current())
    assert colour(canvas, 2, 0) != ground
    canvas.session.set_rule(["fc"], rule("group", 0.5))
    for sparsity in (0.25, 0.75, 0.5):
        canvas.session.set_sparsity_live(["fc"], sparsity)
        settle(qtbot, canvas)
        gone = [colour(canvas, 2, c) == ground for c in range(12)]
        assert gone == [c < round(12 * sparsity) for c in range(12)]
    canvas.session.undo.undo()
    canvas.session.undo.undo()
    settle(qtbot, canvas)
    assert colour(canvas, 2, 0) != ground


def test_the_mask_chip_brings_pruned_weights_back(make, qtbot):
    canvas = make({"fc": SMALL}, {"fc": small()})
    canvas.session.set_rule(["fc"], rule("group", 0.5))
    settle(qtbot, canvas)
    ground = colormaps.pruned(theme.current())
    chip = canvas.findChild(QToolButton, "mask_chip")
    assert colour(canvas, 1, 2) == ground
    QTest.mouseClick(chip, Qt.MouseButton.LeftButton)
    assert not chip.isChecked()
    assert colour(canvas, 1, 2) != ground
    QTest.keyClick(canvas.matrix, Qt.Key.Key_M)
    assert chip.isChecked()
    assert colour(canvas, 1, 2) == ground


def test_views_and_colours_change_by_key_and_chip(make, qtbot):
    canvas = make({"fc": SMALL})
    view, colours = (canvas.findChild(QToolButton, n) for n in ("view_chip", "colour_chip"))
    QTest.keyClick(canvas.matrix, Qt.Key.Key_C)
    assert (canvas.matrix.look.colours, colours.text()) == ("viridis", "viridis")
    for word, text in (("peak", "|w| peak"), ("weight", "signed"), ("change", "change")):
        QTest.keyClick(canvas.matrix, Qt.Key.Key_V)
        settle(qtbot, canvas)
        assert view.text() == text
        assert canvas.client.asked[-1][1]["view"] == word
        assert colours.isEnabled() == (word != "weight")
    actions = {a.data(): a for a in view.menu().actions()}
    assert actions["change"].isChecked()
    actions["magnitude"].trigger()
    assert canvas.matrix.look.view == "magnitude"


def test_the_mask_tab_shows_leaf_and_ground_and_keeps_the_place(make, qtbot):
    canvas = make({"fc": Gemm((60, 120))})
    canvas.session.set_rule(["fc"], rule("filter", 0.5))
    wheel(canvas, 4, (400, 300))
    settle(qtbot, canvas)
    camera = canvas.matrix.camera
    QTest.mouseClick(canvas.tabs, Qt.MouseButton.LeftButton, pos=canvas.tabs.tabRect(1).center())
    assert canvas.matrix.look.mode == "mask"
    assert canvas.matrix.camera == camera
    kept = canvas.client.kept("fc", {"pattern": "filter", "sparsity": 0.5})
    top, left, bottom, _ = camera.visible()
    expected = {True: theme.current().leaf, False: colormaps.pruned(theme.current())}
    for row in range(top + 1, bottom - 4):
        assert colour(canvas, row, left + 2) == expected[bool(kept[row, 0])]


def test_the_wheel_zooms_at_the_cursor_and_asks_for_what_is_in_sight(make, qtbot):
    canvas = make({"conv": CONV})
    matrix = canvas.matrix
    stage = matrix.stage()
    whole = canvas.client.asked[-1][1]
    assert whole["rect"] == [0, 0, 128, 1152]
    assert whole["size"] == [stage.height(), stage.width()]
    at = QPointF(stage.left() + 500, stage.top() + 200)
    before = matrix.camera.cell(500, 200)
    wheel(canvas, 8, (at.x(), at.y()))
    settle(qtbot, canvas)
    assert matrix.camera.cell(500, 200) == before
    seen = [p for m, p in canvas.client.asked if m == "tile" and p["rect"] != whole["rect"]][-1]
    assert tuple(seen["rect"]) == matrix.camera.visible()
    _, left, _, right = seen["rect"]
    assert right - left < 250
    QTest.keyClick(matrix, Qt.Key.Key_F)
    settle(qtbot, canvas)
    assert matrix.camera.fits


def test_dragging_pans_and_a_double_click_fits(make, qtbot):
    canvas = make({"conv": CONV})
    matrix = canvas.matrix
    wheel(canvas, 10, (400, 300))
    before = matrix.camera
    QTest.mousePress(matrix, Qt.MouseButton.LeftButton, pos=QPoint(300, 300))
    QTest.mouseMove(matrix, QPoint(260, 280))
    QTest.mouseRelease(matrix, Qt.MouseButton.LeftButton, pos=QPoint(260, 280))
    wide, high = before.scale
    assert matrix.camera.left == pytest.approx(before.left + 40 / wide)
    assert matrix.camera.top == pytest.approx(before.top + 20 / high)
    QTest.mouseDClick(matrix, Qt.MouseButton.LeftButton, pos=QPoint(300, 300))
    assert matrix.camera.fits
    settle(qtbot, canvas)


def test_the_keyboard_zooms_and_pans(make, qtbot):
    canvas = make({"conv": CONV})
    matrix = canvas.matrix
    for _ in range(6):
        QTest.keyClick(matrix, Qt.Key.Key_Plus)
    left = matrix.camera.left
    QTest.keyClick(matrix, Qt.Key.Key_Right)
    assert matrix.camera.left > left
    QTest.keyClick(matrix, Qt.Key.Key_Minus)
    assert not matrix.camera.fits
    settle(qtbot, canvas)


def test_the_overview_appears_while_zoomed_and_a_click_in_it_goes_there(make, qtbot):
    canvas = make({"conv": CONV})
    matrix = canvas.matrix
    box = matrix.overview_box()
    wheel(canvas, 12, (100, 60))
    settle(qtbot, canvas)
    assert matrix.camera.left < 200
    place = QPoint(int(box.left() + box.width() * 0.9), int(box.top() + box.height() * 0.9))
    QTest.mouseClick(matrix, Qt.MouseButton.LeftButton, pos=place)
    assert matrix.camera.cell(350, 250)[1] > 900
    settle(qtbot, canvas)


def test_the_cell_under_the_cursor_is_named_with_its_value(make, qtbot):
    canvas = make({"conv": CONV})
    canvas.session.set_rule(["conv"], rule("group", 0.5))
    settle(qtbot, canvas)
    matrix = canvas.matrix
    QTest.mouseMove(matrix, pixel_of(canvas, 71, 528))
    settle(qtbot, canvas)
    row, column = matrix.hover
    assert row == 71
    expected = float(canvas.client.matrices["conv"][row, column])
    kept = canvas.client.kept("conv", {"pattern": "group", "sparsity": 0.5})[row, column]
    assert matrix.value == {"value": expected, "kept": bool(kept)}
    QTest.mouseMove(matrix, QPoint(5, 5))
    assert matrix.hover is None


def test_the_old_picture_stays_until_the_new_one_is_there(make, qtbot):
    canvas = make({"fc": SMALL}, {"fc": small()})
    before = colour(canvas, 3, 1)
    canvas.client.hold = True
    canvas.session.set_rule(["fc"], rule("group", 0.5))
    qtbot.wait(100)
    assert colour(canvas, 3, 1) == before
    canvas.client.release()
    assert colour(canvas, 3, 1) == colormaps.pruned(theme.current())
    canvas.client.hold = False


def test_a_late_answer_about_another_layer_is_not_shown(make, qtbot):
    canvas = make({"fc": SMALL, "conv": CONV})
    canvas.client.hold = True
    canvas.session.set_rule(["fc"], rule("group", 0.5))
    qtbot.wait(100)  # two frames: the next question is sent at once
    canvas.session.select(["conv"])
    assert canvas.matrix.tile() is None
    canvas.client.release()
    assert canvas.matrix.tile() is None
    canvas.client.hold = False
    canvas.client.release()
    qtbot.waitUntil(lambda: canvas.matrix.tile() is not None, timeout=2000)
    assert canvas.matrix.tile().layer == "conv"
    settle(qtbot, canvas)


def test_the_masks_of_a_run_show_until_the_plan_changes(make, qtbot):
    kept = np.zeros((6, 12), bool)
    kept[1] = True
    canvas = make({"fc": SMALL}, {"fc": small()}, {"fc": kept})
    session = canvas.session
    ground = colormaps.pruned(theme.current())
    session.report = {"layers": []}
    session.masks_changed.emit()
    settle(qtbot, canvas)
    assert canvas.client.asked[-1][1]["rule"] is None
    assert [colour(canvas, r, 9) == ground for r in range(6)] == [r != 1 for r in range(6)]
    assert canvas.shown.words(0.833) == "Masks of the last run · 83.3 % pruned"
    session.set_rule(["fc"], rule("group", 0.5))
    settle(qtbot, canvas)
    assert colour(canvas, 3, 9) != ground
    assert canvas.shown.words(0.5) == "Preview of the plan · 50.0 % pruned"


def test_a_misfit_and_an_error_are_said_in_the_middle(make, qtbot):
    canvas = make({"misfit": LINEAR, "fc": SMALL})
    middle = canvas.matrix.stage().center().toPoint()
    amber = theme.current().amber

    def has(colour_name):
        picture = image(canvas)
        return any(
            picture.pixelColor(x, y).name() == colour_name
            for y in range(middle.y() - 40, middle.y() + 10)
            for x in range(middle.x() - 200, middle.x() + 200)
        )

    assert has(amber)
    canvas.client.fail = "the engine has lost it"
    canvas.session.select(["fc"])
    settle(qtbot, canvas)
    assert canvas.matrix.error == "the engine has lost it"
    assert has(theme.current().rose)
    canvas.client.fail = ""
    canvas.session.set_rule(["fc"], rule("group"))
    settle(qtbot, canvas)
    assert not canvas.matrix.error


def test_layers_without_a_matrix_and_no_layer_are_no_fault(make, qtbot):
    canvas = make({"fc": SMALL})
    asked = len(canvas.client.asked)
    for selection in (["bn"], []):
        canvas.session.select(selection)
        for tab in ("Weights", "Mask", "Histogram", "Latency"):
            canvas.show_tab(tab)
            canvas.grab()
    assert len(canvas.client.asked) == asked
    assert canvas.matrix.camera is None
    wheel(canvas, 3, (300, 300))
    QTest.keyClick(canvas.matrix, Qt.Key.Key_F)


def test_resizing_keeps_the_whole_in_sight(make, qtbot):
    canvas = make({"conv": CONV})
    canvas.resize(500, 420)
    settle(qtbot, canvas)
    stage = canvas.matrix.stage()
    assert canvas.client.asked[-1][1]["size"] == [stage.height(), stage.width()]


def test_tabs_change_by_shortcut(make, qtbot):
    canvas = make({"fc": SMALL})
    canvas.activateWindow()
    for i, page in enumerate((canvas.matrix, canvas.matrix, canvas.histogram, canvas.latency)):
        key = Qt.Key(Qt.Key.Key_1 + i)
        QTest.keyClick(canvas, key, Qt.KeyboardModifier.AltModifier)
        assert canvas.tabs.currentIndex() == i
        assert page.isVisible()
        assert f"Alt+{i + 1}" in canvas.tabs.tabToolTip(i)


def test_an_answer_to_a_closed_canvas_is_no_fault(make, qtbot):
    canvas = make({"fc": SMALL})
    client = canvas.client
    client.hold = True
    other = Canvas(canvas.session)
    other.resize(400, 300)
    other.show()
    qtbot.wait(60)
    shut(other)
    while client._held:
        client.release()
    client.hold = False
    settle(qtbot, canvas)


# Histogram


def test_the_histogram_asks_when_it_is_looked_at_and_folds(make, qtbot):
    canvas = make({"conv": CONV})
    assert not [m for m, _ in canvas.client.asked if m == "histogram"]
    canvas.session.set_rule(["conv"], rule("element", 0.5))
    canvas.show_tab("Histogram")
    view = canvas.histogram
    qtbot.waitUntil(lambda: view._meta is not None, timeout=2000)
    _, every, kept = view.series()
    weights = canvas.client.matrices["conv"]
    assert every.sum() == weights.size
    assert kept.sum() == weights.size - round(weights.size * 0.5)
    QTest.mouseClick(canvas.findChild(QToolButton, "absolute_chip"), Qt.MouseButton.LeftButton)
    folded_edges, folded, folded_kept = view.series()
    assert len(folded_edges) == len(folded) + 1 == len(every) // 2 + 1
    assert folded_edges[0] == pytest.approx(0, abs=1e-6)
    expected, _ = np.histogram(np.abs(weights), folded_edges.astype("f8"))
    assert np.abs(folded - expected).max() <= 3
    assert folded_kept.sum() == kept.sum()


def test_the_histogram_draws_kept_in_leaf_below_all(make, qtbot):
    canvas = make({"conv": CONV})
    canvas.session.set_rule(["conv"], rule("element", 0.5))
    canvas.show_tab("Histogram")
    view = canvas.histogram
    qtbot.waitUntil(lambda: view._meta is not None, timeout=2000)

    def hue(share_x, share_y):
        plot = view.plot()
        x = int(plot.left() + share_x * plot.width())
        return view.grab().toImage().pixelColor(x, int(plot.bottom() - share_y * plot.height()))

    # In the middle small weights are pruned: grey up to the curve of all. Further out all are kept.
    middle, shoulder = hue(0.5, 0.3), hue(0.44, 0.02)
    assert abs(middle.green() - middle.red()) < 12
    assert shoulder.green() > shoulder.red() + 30
    linear = hue(0.2, 0.15)
    QTest.mouseClick(canvas.findChild(QToolButton, "log_chip"), Qt.MouseButton.LeftButton)
    assert view.logarithmic
    assert hue(0.2, 0.15) != linear


# With the real engine


def test_the_real_engine_paints_a_plans_preview(opened, qtbot, qapp):
    theme.apply(qapp, "dark")
    canvas = Canvas(opened)
    canvas.resize(800, 700)
    canvas.show()
    try:
        layer = next(row for row in opened.info.prunable if row.gemm.taps > 1 and row.params > 500)
        opened.select([layer.path])
        opened.set_rule([layer.path], rule("group", 0.5))
        qtbot.waitUntil(lambda: canvas.matrix.tile() is not None, timeout=20_000)
        settle(qtbot, canvas)
        tile = canvas.matrix.tile()
        assert tile.value.shape == layer.gemm.shape
        columns = (tile.density == 255).all(0)
        assert set(np.unique(tile.density)) == {0, 255}
        assert columns.sum() == layer.gemm.shape[1] - round(layer.gemm.shape[1] * 0.5)
        ground = colormaps.pruned(theme.current())
        for column in range(0, layer.gemm.shape[1], 7):
            assert (colour(canvas, 3, column) == ground) == (not columns[column])
        QTest.mouseMove(canvas.matrix, pixel_of(canvas, 3, 7))
        settle(qtbot, canvas)
        assert canvas.matrix.hover == (3, 7)
        assert canvas.matrix.value["kept"] == bool(columns[7])
        canvas.show_tab("Histogram")
        qtbot.waitUntil(lambda: canvas.histogram._meta is not None, timeout=20_000)
        _, every, kept = canvas.histogram.series()
        assert every.sum() == layer.gemm.shape[0] * layer.gemm.shape[1]
        assert kept.sum() == columns.sum() * layer.gemm.shape[0]
    finally:
        shut(canvas)


def test_a_run_under_way_says_that_its_masks_are_shown(make, qtbot, monkeypatch):
    canvas = make({"fc": SMALL}, {"fc": small()})
    running = RunState(kind="prune", title="Run 1", state="running")
    monkeypatch.setattr(canvas.session._jobs, "run", running)
    canvas.session.masks_changed.emit()
    settle(qtbot, canvas)
    assert canvas.client.asked[-1][1]["source"] == "run"
    assert canvas.shown.words(0.25) == "Masks of the run · 25.0 % pruned"


def test_a_fresh_engine_has_no_masks_of_a_run_that_failed(make):
    canvas = make({"conv": CONV})
    canvas.session.set_rule(["conv"], rule("group"))
    canvas.shown.source = "run"
    canvas.client._set_state("failed")
    canvas.client._set_state("ready")
    assert canvas.shown.source == "plan"
    assert canvas.shown.words(0.5) == "Preview of the plan · 50.0 % pruned"
