"""From a matrix to the pixels of its picture: pooled where it lies, scaled and cut to bytes.

A matrix is a NumPy array on the CPU, or a tensor on a GPU, of which only pixels leave the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...kernels import pyramid, pyramid_cuda

Matrix = np.ndarray | Tensor

_SAMPLE = 1 << 20
_CUT = 0.5


def pooled(matrix: Matrix, view: str, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Pixels of a view, float32: peaks of |w| ("peak"), means of w ("weight"), or means of |w|."""
    if isinstance(matrix, Tensor):
        found = {"peak": pyramid_cuda.peaks, "weight": pyramid_cuda.means}
        return _array(found.get(view, pyramid_cuda.magnitudes)(matrix, rows, columns))
    pools = {"peak": pyramid.peaks, "weight": pyramid.means}
    return pools.get(view, pyramid.magnitudes)(matrix, rows, columns)


def densities(kept: Matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Share of kept cells under each pixel, float32 in [0, 1]; `kept` is bool [out, in]."""
    if isinstance(kept, Tensor):
        return _array(pyramid_cuda.densities(kept, rows, columns))
    return pyramid.densities(kept, rows, columns)


def change(matrix: Matrix, before: np.ndarray) -> Matrix:
    """|matrix - before|, where `matrix` lies."""
    if isinstance(matrix, Tensor):
        return (matrix.float() - torch.from_numpy(before).to(matrix.device)).abs_()
    return np.abs(matrix - before)


def limits(pixels: np.ndarray, view: str) -> tuple[float, float]:
    """The values between which colours run: robust against single pixels where there are others."""
    if view == "weight":
        sizes = np.abs(pixels)
        high = float(np.percentile(sizes, 100 - 2 * _CUT)) or float(sizes.max()) or 1.0
        return -high, high
    low, high = np.percentile(pixels, [_CUT, 100 - _CUT])
    if low == high:
        low, high = pixels.min(), pixels.max()
    return float(low), float(high)


def limits_at(matrix: Matrix, view: str, steps: Sequence[int]) -> tuple[float, float]:
    """`limits` of the whole matrix in pixels of `steps` cells, from a million of them at most."""
    pixels = matrix
    if max(steps) > 1:
        rows, columns = (
            pyramid.edges(0, cells, max(1, cells // step))
            for cells, step in zip(matrix.shape, steps, strict=True)
        )
        pixels = pooled(matrix, view, rows, columns)
    sample = _sample(pixels)
    return limits(sample if view == "weight" else np.abs(sample), view)


def zoom(cells: float) -> int:
    """The zoom level of some cells per pixel: the next lower of 1, 2, 3, 4, 6, 8, 12 and so on."""
    step = 1
    while step * 2 <= cells:
        step *= 2
    return step * 3 // 2 if step > 1 and step * 3 // 2 <= cells else step


def to_bytes(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Pixels as uint8, 0 at `low` and below, 255 at `high` and above."""
    if high <= low:
        return np.full(pixels.shape, 255 if high > 0 else 0, np.uint8)
    scaled = (np.nan_to_num(pixels) - low) * np.float32(255 / (high - low)) + np.float32(0.5)
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _sample(pixels: Matrix) -> np.ndarray:
    """All pixels, or a million of them."""
    count = math.prod(pixels.shape)
    if count > _SAMPLE:
        # Drawn, not every n-th: an even stride would meet the same kernel position each time.
        places = np.random.default_rng(0).integers(count, size=_SAMPLE)
        if isinstance(pixels, Tensor):
            pixels = pixels.reshape(-1)[torch.from_numpy(places).to(pixels.device)]
        else:
            pixels = pixels.ravel()[places]
    return _array(pixels) if isinstance(pixels, Tensor) else pixels


def _array(pixels: Tensor) -> np.ndarray:
    found: np.ndarray = pixels.detach().float().cpu().numpy()
    return found
