"""Sampled dense-dense product: A B^T at the places of a CSR pattern, the gradient of its values.

On the CPU by compiled loops (compiled/sparse.py), or through torch's `sampled_addmm` (MKL) without
them and for fp64; fp16 and bf16 are computed in fp32 and rounded once.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..compiled.jit import ready
from ..cuda.launch import launch, launchable
from ..cuda.source import Source, common_scalar
from .cpu_sparse import CpuSparse
from .csr_spmm import vector
from .small_batch import aligned

_WARPS = 4

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("sddmm",),
    tuple(
        {"T": number, "VEC": str(vec)}
        for number, widest in (("float", 4), ("half", 8), ("bfloat16", 8))
        for vec in (1, widest)
    ),
)


def sddmm(
    crow: Tensor, columns: Tensor, a: Tensor, b: Tensor, *, order: Tensor | None = None
) -> Tensor:
    """The values [nnz] of A B^T at the places of a CSR pattern [out, in]; a [out, n], b [in, n].

    `crow` [out + 1] and `columns` [nnz] are integers, best int32; a and b are of one dtype, which
    the values get. For a linear layer's weight: a = dY^T, b = X^T. `order` as in `csr_spmm`.
    Accumulates in fp32. The CPU takes any floating dtype, a GPU fp32, fp16 and bf16 (TypeError
    otherwise).
    """
    if launchable(a, b):
        return _sddmm_cuda(crow, columns, a, b, order)
    if a.dtype != torch.float64 and ready():
        from ..compiled import sparse

        places = crow.to(torch.int32), columns.to(torch.int32)
        return sparse.sampled(*places, a.detach().float(), b.detach().float()).to(a.dtype)
    zeros = a.new_zeros(len(columns))
    pattern = CpuSparse.from_csr(crow, columns, zeros, (len(a), len(b))).matrix
    wide = pattern.dtype
    sampled = torch.sparse.sampled_addmm(pattern, a.to(wide), b.to(wide).t(), beta=0.0)
    return sampled.values().to(a.dtype)


def _sddmm_cuda(
    crow: Tensor, columns: Tensor, a: Tensor, b: Tensor, order: Tensor | None
) -> Tensor:
    out, n = a.shape
    values = torch.empty(len(columns), dtype=a.dtype, device=a.device)
    rows = (crow.new_empty(0) if order is None else order).to(torch.int32)
    args = (
        *(crow.to(torch.int32), columns.to(torch.int32)),
        *(aligned(a), aligned(b), rows, values, out, n),
    )
    variant = {"T": common_scalar(a, b), "VEC": str(vector(a.dtype, n))}
    launch(SOURCE, "sddmm", (-(-out // _WARPS),), (32 * _WARPS,), args, variant=variant)
    return values
