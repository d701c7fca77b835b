"""`pyramid` for tensors: means, peaks and densities over pixels, reduced where the matrix lies."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from . import pyramid
from .cells import reduce_cells_cuda
from .cuda.launch import launchable


def means(matrix: Tensor, rows: pyramid.Array, columns: pyramid.Array) -> Tensor:
    """Mean over each pixel's cells, float32 [len(rows) - 1, len(columns) - 1], on its device.

    `matrix` is floating [out, in]; `rows` and `columns` come from `pyramid.edges`.
    """
    if launchable(matrix):
        return _mean(matrix, rows, columns, "sum")
    return torch.from_numpy(pyramid.means(_array(matrix), rows, columns))


def magnitudes(matrix: Tensor, rows: pyramid.Array, columns: pyramid.Array) -> Tensor:
    """Mean of absolute values over each pixel's cells; see `means`."""
    if launchable(matrix):
        return _mean(matrix, rows, columns, "magnitude")
    return torch.from_numpy(pyramid.magnitudes(_array(matrix), rows, columns))


def peaks(matrix: Tensor, rows: pyramid.Array, columns: pyramid.Array) -> Tensor:
    """Largest absolute value among each pixel's cells; see `means`."""
    if launchable(matrix):
        return _reduce(matrix, rows, columns, "peak")
    return torch.from_numpy(pyramid.peaks(_array(matrix), rows, columns))


def densities(mask: Tensor, rows: pyramid.Array, columns: pyramid.Array) -> Tensor:
    """Share of kept cells under each pixel, float32 in [0, 1]. `mask` is bool [out, in]."""
    if launchable(mask):
        return _mean(mask, rows, columns, "sum")
    return torch.from_numpy(pyramid.densities(mask.numpy(), rows, columns))


def _array(matrix: Tensor) -> pyramid.Array:
    return matrix.detach().float().numpy()


def _reduce(matrix: Tensor, rows: pyramid.Array, columns: pyramid.Array, reduction: str) -> Tensor:
    return reduce_cells_cuda(matrix, torch.from_numpy(rows), torch.from_numpy(columns), reduction)


def _mean(matrix: Tensor, rows: pyramid.Array, columns: pyramid.Array, reduction: str) -> Tensor:
    areas = np.multiply.outer(np.diff(rows), np.diff(columns)).astype(np.float32)
    sums = _reduce(matrix, rows, columns, reduction)
    return sums / torch.from_numpy(areas).to(sums.device)
