"""Products with a CSR matrix: W X, and the linear layer x W^T.

On the CPU as cpu_sparse.py has it, in fp32 or fp64; fp16 and bf16 are computed in fp32 there and
rounded once.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..cuda.launch import launch, launchable
from ..cuda.source import Source, common_scalar
from .cpu_sparse import CpuSparse, sparse_linear_cpu, sparse_matrix_cpu
from .csr_linear import csr_linear_cuda
from .small_batch import aligned, rows

_THREADS = 128
_BYTES = 16  # what a lane loads at once
_WIDE = (("float", 4), ("half", 8), ("bfloat16", 8))

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("csr_spmm",),
    tuple(
        {"T": number, "VEC": str(vec), "LANES": lanes}
        for number, widest in _WIDE
        for vec in (1, widest)
        for lanes in ("8", "32")
    ),
)

# One pass over W serves this many samples of `csr_linear`.
_SMALL_BATCH = 8


def csr_spmm(
    crow: Tensor,
    columns: Tensor,
    values: Tensor,
    x: Tensor,
    *,
    bias: Tensor | None = None,
    order: Tensor | None = None,
) -> Tensor:
    """W X + bias: [out, n], for W [out, in] in CSR and x [in, n].

    `crow` [out + 1] and `columns` [nnz] are integers, best int32; `values` [nnz] and `bias` [out]
    are of x's dtype. `order` int32 [out] (see `row_order`) is the sequence of rows on a GPU and
    changes no result. Accumulates in fp32. The CPU takes any floating dtype, a GPU fp32, fp16 and
    bf16 (TypeError otherwise).
    """
    if launchable(values, x):
        return _spmm_cuda(crow, columns, values, x, bias, order)
    weight = CpuSparse.from_csr(crow, columns, values, (len(crow) - 1, len(x)))
    return sparse_matrix_cpu(weight, x, bias)


def csr_linear(
    crow: Tensor,
    columns: Tensor,
    values: Tensor,
    x: Tensor,
    *,
    bias: Tensor | None = None,
    order: Tensor | None = None,
) -> Tensor:
    """The linear layer x W^T + bias: x [..., in] to [..., out], contiguous.

    The other arguments as in `csr_spmm`. On a GPU larger batches go through it, with x and y
    transposed.
    """
    out, ins = len(crow) - 1, x.shape[-1]
    if not launchable(values, x):
        return sparse_linear_cpu(CpuSparse.from_csr(crow, columns, values, (out, ins)), x, bias)
    batch = rows(x)
    if len(batch) <= _SMALL_BATCH:
        y = csr_linear_cuda(crow, columns, values, batch, bias)
    else:
        y = csr_spmm(crow, columns, values, batch.t(), bias=bias, order=order).t().contiguous()
    return y.view(*x.shape[:-1], out)


def row_order(crow: Tensor) -> Tensor:
    """The rows from the longest to the shortest, int32 [out]; equal ones as they come."""
    return crow.long().diff().argsort(descending=True, stable=True).to(torch.int32)


def vector(dtype: torch.dtype, n: int) -> int:
    """How many entries a lane loads at once where rows are n long: one load's worth, or one."""
    widest = _BYTES // dtype.itemsize
    return widest if n % widest == 0 else 1


def _spmm_cuda(
    crow: Tensor,
    columns: Tensor,
    values: Tensor,
    x: Tensor,
    bias: Tensor | None,
    order: Tensor | None,
) -> Tensor:
    out, n = len(crow) - 1, x.shape[1]
    vec = vector(x.dtype, n)
    # A narrow X leaves lanes of a whole warp idle.
    lanes = 8 if n <= 8 * vec else 32
    variant = {"T": common_scalar(values, x, bias), "VEC": str(vec), "LANES": str(lanes)}
    y = torch.empty(out, n, dtype=x.dtype, device=x.device)
    none = crow.new_empty(0, dtype=torch.int32)
    args = (
        crow.to(torch.int32),
        columns.to(torch.int32),
        values.contiguous(),
        aligned(x),
        none if order is None else order.to(torch.int32),
        none if bias is None else bias.contiguous(),
        y,
        out,
        n,
    )
    grid = (-(-out * lanes // _THREADS) * -(-n // (lanes * vec)),)
    launch(SOURCE, "csr_spmm", grid, (_THREADS,), args, variant=variant)
    return y
