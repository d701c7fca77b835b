"""The norm of every block of a matrix: of blocks, vectors, kernels, columns, filters."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..cells import reduce_cells_cuda
from ..cuda.launch import launchable

_REDUCTIONS = {0: "sum", 1: "magnitude", 2: "square"}


def block_scores(matrix: Tensor, height: int, width: int, power: int = 2) -> Tensor:
    """Sum of |w|^power over the blocks of floating [out, in], float32 [⌈out/height⌉, ⌈in/width⌉].

    Blocks at the lower and right edge may be smaller. ``1 x V`` are vectors, ``1 x taps`` kernels,
    ``1 x in`` filters, ``out x 1`` columns. A `power` of 0 sums the entries as they are, which then
    are scores. Has gradients; where they are asked for, torch sums. Raises ValueError for other
    powers and for blocks without entries.
    """
    if power not in _REDUCTIONS or height < 1 or width < 1:
        raise ValueError(f"no sums of |w|^{power} over blocks of {height}x{width}")
    out, columns = matrix.shape
    learns = matrix.requires_grad and torch.is_grad_enabled()
    if launchable(matrix) and not learns:
        rows = torch.arange(0, out + height, height).clamp_(max=out)
        borders = torch.arange(0, columns + width, width).clamp_(max=columns)
        return reduce_cells_cuda(matrix, rows, borders, _REDUCTIONS[power])
    entries = matrix.float()
    if power:
        entries = entries.abs() if power == 1 else entries.square()
    padded = pad(entries, (0, -columns % width, 0, -out % height))
    high, wide = padded.shape[0] // height, padded.shape[1] // width
    return padded.view(high, height, wide, width).sum(dim=(1, 3))
