"""Reducing a matrix over the rectangles between borders, on a GPU."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .cuda.launch import launch
from .cuda.source import Source, scalar

REDUCTIONS = ("sum", "magnitude", "square", "peak")
"""Of each cell: the sum of its entries, of their sizes or of their squares, the largest size."""

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_FLOATS = ("float", "half", "bfloat16")
SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("cells",),
    (
        *({"T": t, "REDUCE": str(r)} for t in _FLOATS for r in range(len(REDUCTIONS))),
        {"T": "unsigned char", "REDUCE": "0"},
    ),
)

_THREADS = 256
_BANDS = 8
_ROWS = 64
_COLUMNS = 1024


def reduce_cells_cuda(matrix: Tensor, rows: Tensor, columns: Tensor, reduction: str) -> Tensor:
    """Reduce [out, in] over the cells between borders, float32 [len(rows) - 1, len(columns) - 1].

    `rows` and `columns` are ascending int64 CPU tensors. `matrix` is floating, or bool to be
    counted ("sum"). `reduction` is one of `REDUCTIONS`. The same every time.
    """
    matrix = matrix.detach().contiguous()
    byte = matrix.dtype == torch.bool
    if not byte and matrix.dtype not in _DTYPES:
        matrix = matrix.float()
    variant = {
        "T": "unsigned char" if byte else scalar(matrix.dtype),
        "REDUCE": str(REDUCTIONS.index(reduction)),
    }
    (tall, high), (wide, broad) = _parts(rows, _ROWS), _parts(columns, _COLUMNS)
    bands, cells = len(tall) - 1, len(wide) - 1
    out = torch.empty(bands, cells, device=matrix.device)
    across = int(columns[-1] - columns[0])
    group = max(1, min(_THREADS, _THREADS * cells // max(1, across)))
    # Many low bands, or one tall one: a block gets about as many rows either way.
    at_once = min(_BANDS, max(1, _ROWS * bands // max(1, int(rows[-1] - rows[0]))))
    grid = (-(-bands // at_once) * -(-cells // group),)
    borders = [border.to(matrix.device) for border in (tall, wide)]
    args = (matrix, matrix.shape[1], borders[0], bands, borders[1], cells, at_once, group, out)
    launch(SOURCE, "cells", grid, (_THREADS,), args, variant=variant)
    if high == broad == 1:
        return out
    parts = out.view(len(rows) - 1, high, len(columns) - 1, broad)
    return parts.amax((1, 3)) if reduction == "peak" else parts.sum((1, 3))


def _parts(borders: Tensor, most: int) -> tuple[Tensor, int]:
    """Cut every stretch into equally many parts of at most `most`; the new borders and how many."""
    sizes = borders.diff()
    parts = max(1, -(-int(sizes.max()) // most)) if len(sizes) else 1
    within = sizes.unsqueeze(1) * torch.arange(parts) // parts
    return torch.cat([(borders[:-1].unsqueeze(1) + within).reshape(-1), borders[-1:]]), parts
