"""The bitmap product of `bitmap.py` on tensor cores: fp16 and bf16, sm_80 and above."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..cuda.launch import launch
from ..cuda.source import Source, scalar
from .bitmap_tiles import BitmapTiles
from .small_batch import aligned

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("bitmap_mma_8", "bitmap_mma_16"),
    ({"T": "half"}, {"T": "bfloat16"}),
    min_arch=80,
)
_MOST_WARPS = 16


def bitmap_mma(matrix: BitmapTiles, x: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply x [batch, stride], stride a multiple of four, contiguous, to [batch, out]."""
    out, (strips, chunks), (batch, stride) = matrix.shape[0], matrix.offsets.shape, x.shape
    tile = 8 if batch <= 8 else 16
    y = torch.empty(batch, out, dtype=x.dtype, device=x.device)
    offset = y if bias is None else bias.contiguous()
    tensors = (matrix.words, matrix.offsets, matrix.values, aligned(x), offset, y)
    launch(
        SOURCE,
        f"bitmap_mma_{tile}",
        (-(-strips // 2), -(-batch // tile)),
        (32 * min(_MOST_WARPS, max(1, chunks)),),
        (*tensors, out, chunks, stride, batch, int(bias is not None)),
        variant={"T": scalar(x.dtype)},
    )
    return y
