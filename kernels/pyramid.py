"""Pictures of matrices: means, peaks and densities over the cells that a pixel covers.

Never a nearest sample: a matrix whose every other column is zero must look half empty at any zoom,
and a single large weight must show in the peaks. Everything is NumPy on the CPU; the loops run over
bands of rows, so that a band stays in the cache while it is summed.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_TALLEST = 255


def edges(start: int, stop: int, pixels: int) -> Array:
    """Borders of the runs of cells that pixels cover, int64 [n + 1], with n <= `pixels`.

    Pixel i covers cells ``edges[i] <= cell < edges[i + 1]``; none covers less than a cell.
    Sizes differ by at most one cell.
    """
    if not (0 <= start < stop and pixels > 0):
        raise ValueError(f"no cells from {start} to {stop} on {pixels} pixels")
    count = min(pixels, stop - start)
    return start + np.arange(count + 1, dtype=np.int64) * (stop - start) // count


def means(matrix: Array, rows: Array, columns: Array) -> Array:
    """Mean over each pixel's cells, float32 [len(rows) - 1, len(columns) - 1].

    `matrix` is float32 [out, in]; `rows` and `columns` come from `edges`.
    """
    return _mean(matrix, rows, columns, lambda band: np.add.reduce(band, axis=0))


def magnitudes(matrix: Array, rows: Array, columns: Array) -> Array:
    """Mean of absolute values over each pixel's cells; see `means`."""
    return _mean(matrix, rows, columns, lambda band: np.add.reduce(np.abs(band), axis=0))


def peaks(matrix: Array, rows: Array, columns: Array) -> Array:
    """Largest absolute value among each pixel's cells; see `means`."""
    highest = _bands(matrix, rows, columns, lambda band: np.abs(band).max(axis=0))
    if len(columns) - 1 == highest.shape[1]:
        return highest
    return np.maximum.reduceat(highest, columns[:-1] - columns[0], axis=1)


def densities(mask: Array, rows: Array, columns: Array) -> Array:
    """Share of kept cells under each pixel, float32 in [0, 1]. `mask` is bool [out, in]."""
    add = _count if np.diff(rows).max() <= _TALLEST else _count_tall
    return _mean(mask.view(np.uint8), rows, columns, add)


def _count(band: Array) -> Array:
    # Eight-bit sums are four times as fast and cannot overflow in bands of up to 255 rows.
    return np.add.reduce(band, axis=0, dtype=np.uint8)


def _count_tall(band: Array) -> Array:
    total = np.zeros(band.shape[1], np.uint32)
    for start in range(0, len(band), _TALLEST):
        total += _count(band[start : start + _TALLEST])
    return total


def _mean(matrix: Array, rows: Array, columns: Array, add: Callable[[Array], Array]) -> Array:
    sums = _bands(matrix, rows, columns, add)
    if len(columns) - 1 < sums.shape[1]:
        wide = np.uint32 if sums.dtype.kind == "u" else np.float32
        sums = np.add.reduceat(sums, columns[:-1] - columns[0], axis=1, dtype=wide)
    areas = np.multiply.outer(np.diff(rows), np.diff(columns)).astype(np.float32)
    return np.divide(sums, areas, dtype=np.float32)


def _bands(matrix: Array, rows: Array, columns: Array, reduce: Callable[[Array], Array]) -> Array:
    """Reduce each band of rows to one row, over the columns that `columns` spans."""
    cut = matrix[rows[0] : rows[-1], columns[0] : columns[-1]]
    if len(rows) - 1 == len(cut):  # a pixel for each row: nothing to reduce
        return reduce(cut[None])
    borders = (rows - rows[0]).tolist()
    return np.stack([reduce(cut[a:b]) for a, b in pairwise(borders)])
