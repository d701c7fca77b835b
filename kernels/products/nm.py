"""Products with an N:M matrix, for the N:M, dtypes and shapes that the vendor's library refuses.

`two_four.py` is the way to the vendor's library for 2:4. The CPU has no use for packed places: it
unpacks them at each call and goes the way of `ell.py`; who multiplies often there keeps
`nm_columns` and calls `ell_linear`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..cuda.launch import launch, launchable
from ..cuda.source import Source, scalar
from ..formats.bits import bits_for, unpack_integers
from .ell import ell_linear
from .small_batch import aligned, cut, rows

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("nm_1", "nm_2", "nm_4", "nm_8", "nm_direct"),
    ({"T": "float"}, {"T": "half"}, {"T": "bfloat16"}),
)


def nm_linear(
    values: Tensor, indices: Tensor, x: Tensor, bias: Tensor | None = None, *, n: int, m: int
) -> Tensor:
    """The linear layer y = x W^T + bias of an N:M matrix W[out, in]: x [..., in] to [..., out].

    `values` is [out, ceil(in / m) * n], `indices` the places in their runs, packed, as the NM
    format keeps them; `bias` [out] or None. Accumulates in fp32. The CPU takes any floating dtype,
    a GPU fp32, fp16 and bf16 (TypeError otherwise), m up to 256 and fewer than 2**31 values
    (ValueError).
    """
    if not launchable(values, indices, x):
        return ell_linear(nm_columns(values, indices, x.shape[-1], n=n, m=m), values, x, bias)
    return _nm_cuda(values, indices, rows(x), bias, n, m).view(*x.shape[:-1], len(values))


def nm_columns(values: Tensor, indices: Tensor, ins: int, *, n: int, m: int) -> Tensor:
    """The column of each value: int32 [out, width].

    The zeros that fill up a short last run may lie beyond it; they get the last column.
    """
    places = unpack_integers(indices, bits_for(m), values.numel()).view(values.shape)
    runs = torch.arange(values.shape[1], device=values.device) // n
    return (places + runs * m).clamp(max=max(ins - 1, 0)).to(torch.int32)


def _nm_cuda(
    values: Tensor, indices: Tensor, x: Tensor, bias: Tensor | None, n: int, m: int
) -> Tensor:
    """Multiply x [batch, in], contiguous and aligned, to [batch, out]."""
    if x.dtype == torch.float64:
        raise TypeError("the N:M kernel computes in float32, float16 and bfloat16, not float64")
    if m > 256 or values.numel() >= 1 << 31:
        raise ValueError(f"the N:M kernel takes m up to 256 and 2**31 values, not {n}:{m}")
    (out, width), (batch, ins) = values.shape, x.shape
    plan = cut(out, width, x)
    y = torch.empty(batch, out, dtype=x.dtype, device=x.device)
    offset = y if bias is None else bias.contiguous()
    tensors = (indices.contiguous(), aligned(values), x, offset, y)
    sizes = (out, width, ins, batch, int(bias is not None), plan.lanes, n, m, bits_for(m))
    launch(
        SOURCE,
        f"nm_{plan.suffix}",
        plan.grid,
        plan.block,
        tensors + sizes,
        variant={"T": scalar(x.dtype)},
        shared=plan.shared,
    )
    return y
