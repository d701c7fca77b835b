"""The canvas's arithmetic and words, and its questions to the engine."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from secateur.engine.gemm import Gemm
from secateur.studio.canvas import colormaps, rulers
from secateur.studio.canvas.camera import LARGEST, LARGEST_FITTED, Camera
from secateur.studio.canvas.looks import Look
from secateur.studio.canvas.marks import number
from secateur.studio.canvas.tiles import FRAME_MS, Asker
from secateur.studio.look import theme

sys.path.append(str(Path(__file__).parent))
from recorded import CONV, LINEAR, RecordedEngine


def hexed(colour):
    return "#{:02x}{:02x}{:02x}".format(*colour)


# Camera


@pytest.mark.parametrize("shape", [(128, 1152), (1000, 512), (64, 147), (30000, 768)])
def test_a_fitted_matrix_fills_the_stage(shape):
    camera = Camera(*shape, 700, 440)
    assert camera.fits
    assert camera.extent == pytest.approx((700, 440))
    assert camera.visible() == (0, 0, *shape)


def test_a_small_matrix_is_not_blown_up_without_end():
    camera = Camera(3, 4, 700, 440)
    assert camera.scale == (LARGEST_FITTED, LARGEST_FITTED)
    assert camera.extent == (4 * LARGEST_FITTED, 3 * LARGEST_FITTED)
    assert camera.cell(camera.extent[0] + 1, 5) is None


def test_zooming_keeps_the_cell_under_the_cursor():
    camera = Camera(500, 1200, 700, 440)
    for factor in (2, 3, 1.25, 0.5):
        at = (311.0, 97.0)
        before = (camera.left + at[0] / camera.scale[0], camera.top + at[1] / camera.scale[1])
        camera = camera.zoomed(factor, *at)
        after = (camera.left + at[0] / camera.scale[0], camera.top + at[1] / camera.scale[1])
        assert after == pytest.approx(before)
        top, left, bottom, right = camera.visible()
        assert left <= after[0] < right
        assert top <= after[1] < bottom


def test_zooming_ends_at_square_cells_and_at_the_whole():
    camera = Camera(128, 1152, 700, 440)
    for _ in range(60):
        camera = camera.zoomed(1.5, 700, 440)
    assert camera.scale == (LARGEST, LARGEST)
    assert camera.visible()[2:] == (128, 1152)
    for _ in range(60):
        camera = camera.zoomed(1 / 1.5, 0, 0)
    assert camera == camera.fitted()


def test_panning_stops_at_the_edges():
    camera = Camera(500, 1200, 700, 440).zoomed(8, 0, 0)
    assert camera.moved(500, 500).visible()[:2] == (0, 0)
    assert camera.moved(-1e6, -1e6).visible()[2:] == (500, 1200)
    assert camera.centred(600, 250).cell(350, 220) == (250, 600)


def test_a_resized_stage_still_shows_a_fitted_matrix_whole():
    camera = Camera(128, 1152, 700, 440).resized(300, 900)
    assert camera.visible() == (0, 0, 128, 1152)
    assert camera.extent == pytest.approx((300, 900))


def test_pixels_and_cells_agree():
    camera = Camera(20, 30, 600, 400).zoomed(1.7, 100, 100)
    for cell in ((3, 5), (9, 11)):
        assert camera.cell(camera.x(cell[1]) + 0.1, camera.y(cell[0]) + 0.1) == cell


# Words


def test_an_entry_is_named_as_the_model_does():
    assert rulers.entry_words(LINEAR, 3, 15) == "out 3 · in 15"
    assert rulers.entry_words(CONV, 71, 58 * 9 + 6) == "out 71 · in 58 · kernel (2, 0)"
    grouped = Gemm((8, 2, 3, 3), (3, 3), groups=4)
    # Output 5 is in the third of four groups, whose channels are 4 and 5.
    assert rulers.entry_words(grouped, 5, 9) == "out 5 · in 5 · kernel (0, 0)"
    assert rulers.column_name(CONV, 64 * 9 + 4) == "c 64 · k (1,1)"


@pytest.mark.parametrize("scale", [0.05, 0.6, 3.0, 40.0])
@pytest.mark.parametrize("gemm", [CONV, LINEAR, Gemm((64, 3, 7, 7), (7, 7))])
def test_ticks_keep_their_distance_and_say_where_they_are(gemm, scale):
    ins = gemm.shape[1]
    ticks = rulers.column_ticks(gemm, 0, ins, scale, 92)
    places = [column for column, _ in ticks]
    assert all(0 < column < ins for column in places)
    assert all(b - a >= 92 / scale - 1e-9 for a, b in pairwise(places))
    for column, text in ticks:
        if gemm.taps > 1 and "k" not in text:
            assert gemm.position(column)[1] == (0,) * len(gemm.kernel)
        assert text.split(" · ")[0].removeprefix("c ") == str(column // gemm.taps)


def test_numbers_are_short_and_have_a_real_minus():
    assert number(0.01432) == "0.0143"
    assert number(-0.5) == "−0.5000"
    assert number(0) == "0"
    assert number(3.2e-5) == "3.20e−05"


# Colours


@pytest.mark.parametrize("name", colormaps.MAPS)
def test_colour_maps_grow_lighter_evenly(name):
    colours = colormaps.lookup(name)
    assert colours.shape == (256, 3)
    assert colours.dtype == np.uint8
    light = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > -1).all()
    assert light[-1] - light[0] > 120


@pytest.mark.parametrize("look", [Look(), Look(mode="mask"), Look(view="weight")])
@pytest.mark.parametrize("chosen", [theme.DARK, theme.LIGHT], ids=["dark", "light"])
def test_pruned_cells_are_background_and_kept_ones_keep_their_colour(look, chosen):
    value = np.array([[0, 128, 255, 255]], np.uint8)
    density = np.array([[255, 255, 255, 0]], np.uint8)
    picture = colormaps.image(value, density, look.table(chosen))
    colours = look.colour_map(chosen)
    for x, shade in ((0, 0), (1, 128), (2, 255)):
        expected = chosen.leaf if look.mode == "mask" else hexed(colours[shade])
        assert picture.pixelColor(x, 0).name() == expected
    assert picture.pixelColor(3, 0).name() == colormaps.pruned(chosen)
    assert picture.pixelColor(3, 0).name() != chosen.bg


def test_density_blends_and_without_the_mask_does_not_matter():
    value, density = np.full((1, 2), 200, np.uint8), np.array([[255, 128]], np.uint8)
    over = colormaps.image(value, density, Look().table(theme.DARK))
    bare = colormaps.image(value, density, Look(over=False).table(theme.DARK))
    assert bare.pixelColor(0, 0) == bare.pixelColor(1, 0) == over.pixelColor(0, 0)
    full, half = over.pixelColor(0, 0).red(), over.pixelColor(1, 0).red()
    ground = int(colormaps.pruned(theme.DARK)[1:3], 16)
    assert half == pytest.approx((full + ground) / 2, abs=2)


# Questions


@pytest.fixture
def asker(qtbot):
    client = RecordedEngine({"fc": np.ones((4, 4), "f4")})
    client.hold = True
    made = Asker(client, "value")
    made.client = client
    made.seen = []
    made.answered.connect(lambda asked, meta, arrays: made.seen.append(asked["row"]))
    return made


def question(row):
    return {"layer": "fc", "rule": None, "row": row, "column": 0}


def test_one_question_is_under_way_and_the_newest_is_next(asker, qtbot):
    for row in (0, 1, 2, 3):
        asker.ask(question(row))
    assert [params["row"] for _, params in asker.client.asked] == [0]
    asker.client.release()
    qtbot.waitUntil(lambda: len(asker.client.asked) == 2, timeout=2000)
    asker.client.release()
    qtbot.wait(3 * FRAME_MS)
    assert asker.seen == [0, 3]
    assert len(asker.client.asked) == 2
    assert asker.idle


def test_the_same_question_is_not_asked_twice_at_once(asker, qtbot):
    asker.ask(question(0))
    asker.ask(question(1))
    asker.ask(question(0))
    asker.client.release()
    qtbot.wait(2 * FRAME_MS)
    assert asker.seen == [0]
    assert asker.idle


def test_at_most_thirty_questions_a_second(asker, qtbot):
    asker.client.hold = False
    for row in (0, 1, 2, 3) * 10:
        asker.ask(question(row))
        qtbot.wait(5)
    elapsed = 40 * 5 / 1000
    assert 2 <= len(asker.client.asked) <= elapsed * 30 * 3
    qtbot.waitUntil(lambda: asker.idle, timeout=2000)
    assert asker.seen[-1] == 3


def test_a_refusal_frees_the_next_question(asker, qtbot):
    errors = []
    asker.failed.connect(errors.append)
    asker.client.hold, asker.client.fail = False, "no such layer"
    asker.ask(question(0))
    qtbot.waitUntil(lambda: bool(errors), timeout=2000)
    asker.client.fail = ""
    asker.ask(question(1))
    qtbot.waitUntil(lambda: asker.seen == [1], timeout=2000)
