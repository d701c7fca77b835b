"""The kernel of the CSR linear layer for small batches; `csr_spmm.csr_linear` is the operation."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..cuda.launch import launch
from ..cuda.source import Source, common_scalar
from .small_batch import aligned, cut

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    tuple(f"csr_linear_{suffix}" for suffix in ("1", "2", "4", "8", "direct")),
    tuple({"T": number} for number in ("float", "half", "bfloat16")),
)


def csr_linear_cuda(
    crow: Tensor, columns: Tensor, values: Tensor, x: Tensor, bias: Tensor | None
) -> Tensor:
    """From x [batch, in], contiguous and aligned, to [batch, out]; fp32, fp16 or bf16."""
    out, (batch, ins) = len(crow) - 1, x.shape
    y = torch.empty(batch, out, dtype=x.dtype, device=x.device)
    plan = cut(out, -(-len(values) // max(out, 1)), x)
    tensors = (
        crow.to(torch.int32),
        aligned(columns.to(torch.int32)),
        aligned(values),
        x,
        x.new_empty(0) if bias is None else bias.contiguous(),
        y,
    )
    sizes = (out, len(values), ins, batch, plan.lanes)
    launch(
        SOURCE,
        f"csr_linear_{plan.suffix}",
        plan.grid,
        plan.block,
        tensors + sizes,
        variant={"T": common_scalar(values, x, bias)},
        shared=plan.shared,
    )
    return y
