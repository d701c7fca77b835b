"""Products with a matrix of blocks (BSR): forward, and backward block by block.

On a GPU through torch's BSR product and its batched dense one, on the CPU through `cpu_sparse.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..formats.entries import lines_of
from .cpu_sparse import CpuSparse, sparse_linear_cpu

# Entries of both operands that are gathered at once for sampled blocks.
_AT_ONCE = 1 << 20


def bsr_linear(
    crow: Tensor, columns: Tensor, values: Tensor, x: Tensor, bias: Tensor | None, out: int
) -> Tensor:
    """The linear layer x W^T + bias: x [..., in] to [..., out], contiguous; `bias` [out] or None.

    `crow` [ceil(out / h) + 1] and `columns` [blocks] are int32, `values` [blocks, h, w], of x's
    dtype. Of blocks that reach over an edge of W[out, in] nothing beyond it may be other than zero.
    """
    ins, (height, width) = x.shape[-1], values.shape[1:]
    if not x.is_cuda:
        return sparse_linear_cpu(CpuSparse.from_bsr(crow, columns, values, (out, ins)), x, bias)
    across = ins + -ins % width
    whole = ((len(crow) - 1) * height, across)
    matrix = torch.sparse_bsr_tensor(crow, columns, values, whole, check_invariants=False)
    flat = F.pad(x.reshape(-1, ins), (0, across - ins))
    y = (matrix @ flat.t())[:out].t()
    return (y if bias is None else y + bias).reshape(*x.shape[:-1], out).contiguous()


def sampled_blocks(
    crow: Tensor, columns: Tensor, block: tuple[int, int], a: Tensor, b: Tensor
) -> Tensor:
    """The blocks [blocks, h, w] of A B^T at the places of a BSR pattern; a [out, n], b [in, n].

    For a linear layer's weight: a = dY^T, b = X^T. What lies beyond the edges is zero. A few blocks
    at a time, so that what is gathered stays small. The CPU computes fp16 and bf16 in fp32.
    """
    height, width = block
    half = a.is_cpu and a.dtype in (torch.float16, torch.bfloat16)
    left, right = (
        F.pad(part, (0, 0, 0, -len(part) % side)).unflatten(0, (-1, side))
        for part, side in ((a, height), (b, width))
    )
    rows, columns = lines_of(crow, len(columns)), columns.long()
    found = a.new_empty(len(columns), height, width)
    at_once = max(1, _AT_ONCE // max(1, (height + width) * a.shape[1]))
    for start in range(0, len(found), at_once):
        some = slice(start, start + at_once)
        pair = left[rows[some]], right[columns[some]]
        one, other = (part.float() for part in pair) if half else pair
        found[some] = torch.bmm(one, other.transpose(1, 2))
    return found
