"""The linear layer of which whole columns are gone, by tiles on tensor cores: sm_80 and above.

fp16 and bf16 as they are, fp32 rounded to tf32; sums in fp32. Its tensor-core instructions have a
form for the host in mma.cuh, so it is emulated like the others.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ...cuda.source import Source
from .launch import linear_by_tiles
from .tiles import MMA_TILES, cut

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("grouped_linear_mma", "grouped_linear_mma_sum"),
    tuple(
        {"T": number, **tile.macros}
        for number in ("float", "half", "bfloat16")
        for tile in MMA_TILES
    ),
    min_arch=80,
)


def grouped_linear_mma(x: Tensor, values: Tensor, kept: Tensor, bias: Tensor | None) -> Tensor:
    """From x [batch, in], contiguous, to [batch, out]; `values` [out, kept], `kept` int32."""
    steps = -(-len(kept) * x.element_size() // (4 * MMA_TILES[-1].words))
    plan = cut(MMA_TILES, len(values), len(x), steps, 1, x.device)
    return linear_by_tiles(SOURCE, plan, x, values, kept, bias)
