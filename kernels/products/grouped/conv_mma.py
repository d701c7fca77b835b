"""The convolution of which whole input positions are gone, on tensor cores: sm_80 and above.

fp16 and bf16 as they are, fp32 rounded to tf32; sums in fp32. Its tensor-core instructions have a
form for the host in mma.cuh, so it is emulated like the others.
"""

from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor

from ...cuda.source import Source
from .launch import Convolution, conv_by_tiles
from .tiles import MMA_TILES, cut

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("grouped_conv_mma", "grouped_conv_mma_sum"),
    tuple(
        {"T": number, **tile.macros}
        for number in ("float", "half", "bfloat16")
        for tile in MMA_TILES
    ),
    min_arch=80,
)


def grouped_conv_mma(
    x: Tensor, values: Tensor, kept: Tensor, bias: Tensor | None, walk: Convolution
) -> Tensor:
    """From x [n, c, d, h, w], contiguous, to [n, out, d', h', w'], as `grouped_conv`."""
    steps = -(-len(kept) * x.element_size() // (4 * MMA_TILES[-1].words))
    columns = len(x) * math.prod(walk.outputs(tuple(x.shape[2:])))
    plan = cut(MMA_TILES, len(values) // walk.groups, columns, steps, walk.groups, x.device)
    return conv_by_tiles(SOURCE, plan, x, values, kept, bias, walk)
