"""Linear layers with scattered zeros or zero blocks on the CPU, stored as torch's CSR and BSR.

float32 is multiplied by compiled loops (compiled/sparse.py). Where these can't be compiled, and for
float64, torch's products (MKL) serve. What makes those fast, measured: int32 indices (int64 ones
are converted on every call); the matrix-vector product for one sample; x transposed and contiguous,
in pieces of samples that stay in the second-level cache; and for BSR, which knows square blocks
only, batches that are multiples of 16. Others take a generic path that is ten to a hundred times
slower (only up to four samples, and then not with blocks of 4 and 8, it is not taken), so that
samples of zeros fill them up.

Bytes moved: 8 an entry for CSR, 4 for BSR, and 4 * in + 4 * out a sample; 2 operations an entry and
sample.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ..compiled.jit import ready
from ..formats.entries import lines_of, starts

# Samples in one product, of CSR and of BSR: more leave the cache, fewer read the matrix too often.
_PIECE = (64, 128)
# What the vendor's BSR product needs a batch to be a multiple of, and where it does not.
_LANES = 16
_FEW, _SLOW_BLOCKS = 3, (4, 8)


@dataclass(frozen=True, eq=False)
class CpuSparse:
    """W[out, in] as the CPU's sparse products want it.

    `matrix` is a CSR or BSR tensor of torch, fp32 or fp64, with int32 indices; it may be larger
    than `shape` where blocks reach over the edges.
    """

    shape: tuple[int, int]
    matrix: Tensor

    @classmethod
    def from_csr(
        cls, crow: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]
    ) -> Self:
        """From the parts of a CSR matrix: integers [out + 1] and [nnz], floating [nnz]."""
        return cls(shape, _quiet(torch.sparse_csr_tensor, crow, columns, values, shape))

    @classmethod
    def from_bsr(
        cls, crow: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]
    ) -> Self:
        """From the parts of a BSR matrix, of which `values` is [blocks, h, w].

        Blocks that are not square are cut into the largest squares that fit both sides, or into
        single entries. Squares of zeros are left out.
        """
        height, width = values.shape[1:]
        down, across = len(crow) - 1, -(-shape[1] // width)
        whole = (down * height, across * width)
        if height == width > 1:
            return cls(shape, _quiet(torch.sparse_bsr_tensor, crow, columns, values, whole))
        side = math.gcd(height, width)
        high, wide = height // side, width // side
        squares = values.detach().reshape(-1, high, side, wide, side).transpose(2, 3)
        number, row, column = (squares != 0).flatten(3).any(dim=3).nonzero(as_tuple=True)
        rows = lines_of(crow, len(columns))[number] * high + row
        places = columns.long()[number] * wide + column
        order = (rows * (across * wide) + places).argsort()
        kept, places = squares[number, row, column][order], places[order]
        begins = starts(rows[order], down * high)
        if side == 1:
            # What a block has beyond the edges is zero, and gone.
            return cls.from_csr(begins[: shape[0] + 1], places, kept.flatten(), shape)
        return cls(shape, _quiet(torch.sparse_bsr_tensor, begins, places, kept, whole))

    @classmethod
    def from_dense(cls, matrix: Tensor, block: int = 1) -> Self:
        """Store the non-zeros of a matrix [out, in], or its squares of `block` that hold any."""
        out, ins = matrix.shape
        matrix = F.pad(matrix.detach(), (0, -ins % block, 0, -out % block))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = matrix.to_sparse_csr() if block == 1 else matrix.to_sparse_bsr((block, block))
        parts = found.crow_indices(), found.col_indices(), found.values()
        build = torch.sparse_csr_tensor if block == 1 else torch.sparse_bsr_tensor
        return cls((out, ins), _quiet(build, *parts, tuple(matrix.shape)))

    @property
    def block(self) -> int:
        """The side of the squares; 1 for CSR."""
        return 1 if self.matrix.layout == torch.sparse_csr else self.matrix.values().shape[-1]


def sparse_linear_cpu(weight: CpuSparse, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """The layer x W^T + bias: [..., in] -> [..., out], contiguous; `bias` is [out] or None.

    Any floating dtype: fp16 and bf16 are computed in fp32 and rounded once. Gives no gradients.
    """
    (out, ins), matrix, block = weight.shape, weight.matrix, weight.block
    flat = x.detach().reshape(math.prod(x.shape[:-1]), ins).to(matrix.dtype)
    y = flat.new_empty(len(flat), out)
    if matrix.dtype == torch.float32 and ready():
        from ..compiled import sparse

        sparse.multiply(matrix, flat, y, bias)
    else:
        _multiply(matrix, flat, y, block)
        if bias is not None:
            y += bias
    return y.to(x.dtype).view(*x.shape[:-1], out)


def sparse_matrix_cpu(weight: CpuSparse, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """W X + bias: [in, n] -> [out, n], contiguous; W as CSR, `bias` [out]; dtypes as above."""
    (out, _), matrix = weight.shape, weight.matrix
    given = x.detach().to(matrix.dtype)
    if matrix.dtype == torch.float32 and ready():
        from ..compiled import sparse

        y = given.new_empty(out, x.shape[1])
        sparse.multiply(matrix, given.t(), y.t(), bias)
    else:
        y = (matrix @ given).contiguous()
        if bias is not None:
            y += bias[:, None]
    return y.to(x.dtype)


def _multiply(matrix: Tensor, x: Tensor, y: Tensor, block: int) -> None:
    """Write x W^T to y [n, out] by torch's products; x [n, in]."""
    (rows, columns), (out, ins) = matrix.shape, (y.shape[1], x.shape[1])
    if len(x) == 1 and block == 1:
        torch.mv(matrix, x[0], out=y[0])
        return
    most = min(_PIECE[block > 1], len(x))
    room = x.new_empty(rows, _filled(most, block))
    given = x.new_zeros(columns, room.shape[1])
    for source, target in zip(x.split(_PIECE[block > 1]), y.split(_PIECE[block > 1]), strict=True):
        samples = len(source)
        wide = _filled(samples, block)
        if wide != room.shape[1]:
            room, given = room.new_empty(rows, wide), given.new_zeros(columns, wide)
        given[:ins, :samples] = source.t()
        torch.mm(matrix, given, out=room)
        target.copy_(room[:out, :samples].t())


def _filled(samples: int, block: int) -> int:
    """How many samples the product takes, to be fast, for so many."""
    if block > 1 and (samples > _FEW or block in _SLOW_BLOCKS):
        return samples + -samples % _LANES
    return samples


def _quiet(
    build: Callable[..., Tensor],
    crow: Tensor,
    columns: Tensor,
    values: Tensor,
    shape: tuple[int, ...],
) -> Tensor:
    """A sparse tensor of torch, without its warning that such tensors are a beta."""
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    parts = crow.to(torch.int32), columns.to(torch.int32), values.detach().to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return build(*parts, size=shape, check_invariants=False)
