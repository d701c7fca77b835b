"""Which cells of a matrix the pixels of a picture cover."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...kernels import pyramid

_MOST_PIXELS = 4096


def pixels_of(
    rect: Sequence[int], size: Sequence[int], shape: tuple[int, int]
) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    """The rectangle cut to the matrix, and the borders of its pixels in cells."""
    top, left = max(0, rect[0]), max(0, rect[1])
    bottom, right = min(shape[0], rect[2]), min(shape[1], rect[3])
    height, width = (min(int(pixels), _MOST_PIXELS) for pixels in size)
    rows = pyramid.edges(top, bottom, height)
    return (top, left, bottom, right), rows, pyramid.edges(left, right, width)
