"""N of every M by one kernel: the mask, and the packed matrix in the same reading."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..cuda.launch import Argument, launch, launchable
from ..cuda.source import Source, scalar
from ..formats.bits import bits_for
from ..formats.nm import NM

LENGTHS = (4, 8, 16, 32)
"""The M that there are kernels for."""

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("nm_mask", "nm_mask_apart"),
    tuple({"T": t, "M": str(m)} for t in ("float", "half", "bfloat16") for m in LENGTHS),
)

_RUNS = 256


def serves(scores: Tensor, m: int) -> bool:
    """Whether the kernels can choose in runs of `m` of these scores, where they are."""
    return m in LENGTHS and scores.numel() < 2**32 and launchable(scores)


def keep_n_of_m_cuda(scores: Tensor, n: int, m: int, step: int = 1) -> Tensor:
    """`select.keep_n_of_m` by the kernel, for the `m` of `LENGTHS`."""
    scores = _supported(scores)
    rows, columns = scores.shape
    mask = torch.empty(rows, columns, dtype=torch.bool, device=scores.device)
    spans = -(-columns // (m * step))
    runs = rows * spans * step
    grid, variant = (-(-runs // _RUNS),), {"T": scalar(scores.dtype), "M": str(m)}
    args: list[Argument]
    if step == 1:
        function = "nm_mask"
        args = [scores, mask, none := mask.new_empty(0), none, runs, spans, columns, n, 1, 0]
    else:
        function = "nm_mask_apart"
        args = [scores, mask, runs, spans, columns, step, n]
    launch(SOURCE, function, grid, (_RUNS,), args, variant=variant)
    return mask


def pack_n_of_m_cuda(weight: Tensor, n: int, m: int) -> NM:
    """`packing.pack_n_of_m` by the kernel, for the `m` of `LENGTHS`; not float64."""
    weight = weight.detach().contiguous()
    out, columns = weight.shape
    runs_in_row, bits = -(-columns // m), bits_for(m)
    runs = out * runs_in_row
    values = weight.new_empty(out, runs_in_row * n)
    indices = torch.empty(-(-values.numel() * bits // 8), dtype=torch.uint8, device=weight.device)
    none = torch.empty(0, device=weight.device)
    args = (weight, none, values, indices, runs, runs_in_row, columns, n, bits, 1)
    variant = {"T": scalar(weight.dtype), "M": str(m)}
    launch(SOURCE, "nm_mask", (-(-runs // _RUNS),), (_RUNS,), args, variant=variant)
    return NM((out, columns), n, m, values, indices)


def _supported(scores: Tensor) -> Tensor:
    scores = scores.detach()
    return (scores.float() if scores.dtype == torch.float64 else scores).contiguous()
