"""A picture of a matrix says what is in all the cells that a pixel covers."""

import numpy as np
import pytest

from secateur.kernels import pyramid


@pytest.fixture
def matrix():
    return np.random.default_rng(0).standard_normal((37, 53)).astype(np.float32)


@pytest.mark.parametrize(("start", "stop", "pixels"), [(0, 10, 3), (5, 8, 40), (0, 1000, 999)])
def test_edges_cover_every_cell_once_and_evenly(start, stop, pixels):
    borders = pyramid.edges(start, stop, pixels)
    sizes = np.diff(borders)
    assert (borders[0], borders[-1]) == (start, stop)
    assert len(sizes) == min(pixels, stop - start)
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


def test_edges_of_nothing_are_refused():
    with pytest.raises(ValueError, match="no cells from 4 to 4"):
        pyramid.edges(4, 4, 10)
    with pytest.raises(ValueError, match="0 pixels"):
        pyramid.edges(0, 4, 0)


@pytest.mark.parametrize("rect", [(0, 0, 37, 53), (3, 7, 30, 50), (36, 52, 37, 53)])
@pytest.mark.parametrize("size", [(5, 9), (37, 53), (100, 4), (6, 100)])
def test_pixels_are_reductions_over_their_cells(matrix, rect, size):
    rows = pyramid.edges(rect[0], rect[2], size[0])
    columns = pyramid.edges(rect[1], rect[3], size[1])
    mask = matrix > 0.3
    tiles = {
        "mean": (pyramid.means(matrix, rows, columns), lambda x: matrix[x].mean()),
        "abs": (pyramid.magnitudes(matrix, rows, columns), lambda x: np.abs(matrix[x]).mean()),
        "peak": (pyramid.peaks(matrix, rows, columns), lambda x: np.abs(matrix[x]).max()),
        "density": (pyramid.densities(mask, rows, columns), lambda x: mask[x].mean()),
    }
    for name, (tile, expected) in tiles.items():
        assert tile.dtype == np.float32
        assert tile.shape == (len(rows) - 1, len(columns) - 1)
        for i in range(len(rows) - 1):
            for j in range(len(columns) - 1):
                cells = np.s_[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
                assert tile[i, j] == pytest.approx(expected(cells), abs=1e-5), name


def test_every_other_column_is_half_the_density_at_any_zoom():
    mask = np.zeros((600, 640), bool)
    mask[:, ::2] = True
    for pixels in (1, 2, 160, 320):
        rows, columns = pyramid.edges(0, 600, 2), pyramid.edges(0, 640, pixels)
        assert np.allclose(pyramid.densities(mask, rows, columns), 0.5)


def test_counts_do_not_overflow_in_tall_bands():
    rows, columns = pyramid.edges(0, 70_000, 1), pyramid.edges(0, 2, 1)
    assert pyramid.densities(np.ones((70_000, 2), bool), rows, columns)[0, 0] == 1
