"""What runs would keep with any other channel in any of their places, for all pairs at once."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..cuda.launch import launch, launchable
from ..cuda.source import Source

SOURCE = Source(Path(__file__).with_suffix(".cu"), ("larger_sums",))

_TILE = 64
_LEAST_ROWS = 128
_MOST_SPLITS = 16


def larger_sums(limits: Tensor, columns: Tensor) -> Tensor:
    """Sum over rows of max(limit, column), float32 [places, channels], for every pair of them.

    `limits` is float32 [places, rows], `columns` float32 [channels, rows], neither negative. The
    same arguments give the same sums.
    """
    if launchable(limits, columns):
        return larger_sums_cuda(limits, columns)
    # max(a, b) = (a + b + |a - b|) / 2, and sums of |a - b| are a distance that torch knows.
    apart = torch.cdist(limits[None], columns[None], p=1)[0]
    return (apart + limits.sum(1, keepdim=True) + columns.sum(1)) / 2


def larger_sums_cuda(limits: Tensor, columns: Tensor) -> Tensor:
    """`larger_sums` by the kernel."""
    limits, columns = limits.contiguous(), columns.contiguous()
    (places, rows), channels = limits.shape, len(columns)
    splits = max(1, min(_MOST_SPLITS, rows // _LEAST_ROWS))
    stretch = -(-rows // splits)
    out = torch.empty(splits, places, channels, device=limits.device)
    grid = (-(-channels // _TILE), -(-places // _TILE), splits)
    args = (limits, columns, places, channels, rows, stretch, out)
    launch(SOURCE, "larger_sums", grid, (256,), args)
    return out.sum(0)
