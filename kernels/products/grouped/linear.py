"""The linear layer without whole columns: y = x[:, kept] values^T + bias (S1, algorithm 2).

On CUDA one of four ways, fastest where `_choose` says as far as arithmetic on the limits goes (the
sources' comments); only measuring knows, so each can be asked for by name:

- `rows`: batch to 8, streams the values;
- `tile`: tiles in float arithmetic, the gather inside;
- `mma`: the same on tensor cores (fp16, bf16, tf32), sm_80 and above;
- `gathered`: x[:, kept] packed by a kernel, then the vendor's GEMM.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ...cuda.launch import launch, launchable
from ...cuda.source import Source, scalar
from ..small_batch import rows
from .launch import linear_by_tiles
from .linear_mma import grouped_linear_mma
from .tiles import SIMT_TILES, aligned_rows, check_dtypes, cut, has_tensor_cores

Method = Literal["rows", "tile", "mma", "gathered"]

_BATCHES = (1, 4, 8)
# Outputs from which packing x pays: 2 * kept * outs operations against 2 * kept entries moved.
_MANY_OUTS = 512

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    (
        "grouped_linear",
        "grouped_linear_sum",
        "grouped_linear_gather",
        *(f"grouped_linear_rows_{batch}" for batch in _BATCHES),
    ),
    tuple(
        {"T": number, **tile.macros}
        for number in ("float", "half", "bfloat16")
        for tile in SIMT_TILES
    ),
)


def grouped_linear(
    x: Tensor,
    values: Tensor,
    kept: Tensor,
    bias: Tensor | None = None,
    *,
    method: Method | None = None,
    tf32: bool = False,
) -> Tensor:
    """From x [..., in] to [..., out], reading only the inputs `kept` (int32 [kept], any order).

    `values` is [out, kept], `bias` [out] or None, all in the dtype of `x`. `tf32` allows tensor
    cores for fp32. `method` forces one way on CUDA. Raises ValueError for a method that can't
    and for dtypes that differ.
    """
    if not launchable(x, values, kept) or x.dtype == torch.float64:
        return F.linear(x.index_select(-1, kept), values, bias)
    check_dtypes(x, values, bias)
    flat, kept = rows(x), kept.to(torch.int32).contiguous()
    method = method or _choose(flat, len(values), tf32)
    if method == "gathered":
        y = F.linear(_gather(flat, kept), values, bias)
    elif method == "mma":
        y = grouped_linear_mma(flat, values, kept, bias)
    elif method == "tile":
        y = _tile(flat, values, kept, bias)
    else:
        y = _rows(flat, values, kept, bias)
    return y.view(*x.shape[:-1], len(values))


def grouped_linear_backward(
    grad: Tensor, x: Tensor, values: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients to `x` and to `values`, from that of y: two dense products of torch.

    2 * batch * out * kept operations each; the gathered x and the kept part of its gradient are
    made whole, batch * kept entries each.
    """
    index = kept.long()
    to_kept = grad @ values
    to_x = to_kept.new_zeros(x.shape).index_copy_(-1, index, to_kept)
    flat = grad.reshape(-1, grad.shape[-1])
    return to_x, flat.T @ x.reshape(-1, x.shape[-1]).index_select(1, index)


def _choose(x: Tensor, outs: int, tf32: bool) -> Method:
    if len(x) <= _BATCHES[-1]:
        return "rows"
    if outs >= _MANY_OUTS:
        return "gathered"
    half = x.dtype != torch.float32
    return "mma" if (half or tf32) and has_tensor_cores(x.device) else "tile"


def _rows(x: Tensor, values: Tensor, kept: Tensor, bias: Tensor | None) -> Tensor:
    batch, outs = len(x), len(values)
    suffix = next((most for most in _BATCHES if most >= batch), None)
    if suffix is None:
        raise ValueError(f"a batch of {batch} is more than {_BATCHES[-1]} rows")
    values = aligned_rows(values)
    y = torch.empty(batch, outs, dtype=x.dtype, device=x.device)
    sizes = (values.stride(0), len(kept), outs, batch, x.shape[1])
    launch(
        SOURCE,
        f"grouped_linear_rows_{suffix}",
        (-(-outs // 16),),
        (128,),
        (x, values, kept, x.new_empty(0) if bias is None else bias.contiguous(), y, *sizes),
        variant={"T": scalar(x.dtype), **SIMT_TILES[0].macros},
    )
    return y


def _tile(x: Tensor, values: Tensor, kept: Tensor, bias: Tensor | None) -> Tensor:
    steps = -(-len(kept) // SIMT_TILES[-1].words)
    plan = cut(SIMT_TILES, len(values), len(x), steps, 1, x.device)
    return linear_by_tiles(SOURCE, plan, x, values, kept, bias)


def _gather(x: Tensor, kept: Tensor) -> Tensor:
    """x[:, kept] with rows on multiples of 16 bytes."""
    (batch, ins), depth = x.shape, len(kept)
    lane = 16 // x.element_size()
    pitch = -(-depth // lane) * lane
    packed = torch.empty(batch, pitch, dtype=x.dtype, device=x.device)
    launch(
        SOURCE,
        "grouped_linear_gather",
        (-(-batch // 4), -(-pitch // 512)),
        (128,),
        (x, kept, packed, pitch, depth, batch, ins),
        variant={"T": scalar(x.dtype), **SIMT_TILES[0].macros},
    )
    return packed[:, :depth]
