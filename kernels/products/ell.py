"""Products with a matrix of constant fan-in (ELL), for small batches.

On the CPU this is a CSR product with rows of one length.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..cuda.launch import launch, launchable
from ..cuda.source import Source, scalar
from .cpu_sparse import CpuSparse, sparse_linear_cpu
from .small_batch import aligned, cut, rows

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("ell_1", "ell_2", "ell_4", "ell_8", "ell_direct"),
    tuple(
        {"T": number, "INDEX_BITS": bits}
        for number in ("float", "half", "bfloat16")
        for bits in ("16", "32")
    ),
)


def ell_linear(columns: Tensor, values: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """The linear layer y[..., o] = bias[o] + sum over j of values[o, j] * x[..., columns[o, j]].

    `columns` and `values` are [out, width], x [..., in], `bias` [out] or None; columns are
    integers, best int32, or uint16 on a GPU, where they halve the bytes. Accumulates in fp32. The
    CPU takes any floating dtype, a GPU fp32, fp16 and bf16 (TypeError otherwise).
    """
    batch = rows(x)
    if launchable(columns, values, x):
        y = _ell_cuda(columns, values, batch, bias)
    else:
        y = _ell_cpu(columns, values, batch, bias)
    return y.view(*x.shape[:-1], len(values))


def _ell_cuda(columns: Tensor, values: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply x [batch, in], contiguous and aligned, to [batch, out]."""
    if x.dtype == torch.float64:
        raise TypeError("the ELL kernel computes in float32, float16 and bfloat16, not float64")
    (out, width), (batch, ins) = values.shape, x.shape
    if columns.dtype != torch.uint16:
        columns = columns.to(torch.int32)
    variant = {"T": scalar(x.dtype), "INDEX_BITS": str(8 * columns.element_size())}
    plan = cut(out, width, x)
    y = torch.empty(batch, out, dtype=x.dtype, device=x.device)
    offset = y if bias is None else bias.contiguous()
    tensors = (aligned(columns), aligned(values), x, offset, y)
    sizes = (out, width, ins, batch, int(bias is not None), plan.lanes)
    function = f"ell_{plan.suffix}"
    launch(
        SOURCE,
        function,
        plan.grid,
        plan.block,
        tensors + sizes,
        variant=variant,
        shared=plan.shared,
    )
    return y


def _ell_cpu(columns: Tensor, values: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    out, width = values.shape
    starts = torch.arange(out + 1, dtype=torch.int32) * width
    shape = (out, x.shape[1])
    matrix = CpuSparse.from_csr(starts, columns.reshape(-1), values.reshape(-1), shape)
    return sparse_linear_cpu(matrix, x, bias)
