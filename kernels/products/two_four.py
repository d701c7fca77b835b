"""2:4 products by the vendor's library (cuSPARSELt, through torch), linear and as a convolution.

Writing a 2:4 product of our own does not pay (the sparse tensor cores are the vendor's ground);
where the library refuses, the N:M product of `nm.py` takes its place, on the CPU too. A convolution
goes to the same products by its GEMM view (S2, "Inducing Semi-Structured Sparsity by Masking"):
its input's patches are gathered once, into rows that are contiguous along the runs of four.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ..formats.nm import NM
from .nm import nm_linear

Pair = tuple[int, int]

_DTYPES = (torch.float16, torch.bfloat16)
# What the library takes: multiples of 16 for both sides of the matrix, of 8 for the samples.
_SIDE, _SAMPLES = 16, 8
_TIMED = 5
_ALGORITHMS = 40  # as many as any version has; a version says no to those it lacks


class Unsupported(RuntimeError):
    """The vendor's library does not multiply this matrix here; the message says why."""


def refusal(dtype: torch.dtype, device: torch.device) -> str | None:
    """Why the vendor's library takes no 2:4 matrices of this dtype there, or None if it does."""
    if device.type != "cuda":
        return f"2:4 tensor cores are a GPU's, and the matrix is on {device.type}."
    if torch.cuda.get_device_capability(device) < (8, 0):
        name = torch.cuda.get_device_name(device)
        return f"2:4 tensor cores came with compute capability 8.0, which {name} does not have."
    if dtype not in _DTYPES:
        return f"The vendor's library takes 2:4 matrices in float16 and bfloat16, not {dtype}."
    if not torch.backends.cusparselt.is_available():
        return "This build of torch comes without cuSPARSELt."
    return None


@dataclass(frozen=True, eq=False)
class TwoFour:
    """A 2:4 matrix of `shape` (out, in) in the library's own packing, padded with zeros."""

    shape: tuple[int, int]
    packed: Tensor

    @classmethod
    def from_dense(cls, matrix: Tensor) -> Self:
        """Pack a [out, in] matrix with at most two non-zeros in each four of a row.

        Raises Unsupported where the library does not take it, Unfit where it is not 2:4.
        """
        if (reason := refusal(matrix.dtype, matrix.device)) is not None:
            raise Unsupported(reason)
        NM.from_dense(matrix)
        out, ins = matrix.shape
        padded = _filled(matrix.detach(), out + -out % _SIDE, ins + -ins % _SIDE)
        return cls((out, ins), torch._cslt_compress(padded))


def pack(matrix: Tensor) -> TwoFour | NM:
    """Pack a 2:4 matrix for the library, or as NM where that refuses; Unfit if it is not 2:4."""
    if refusal(matrix.dtype, matrix.device) is None:
        return TwoFour.from_dense(matrix)
    return NM.from_dense(matrix)


def two_four_linear(matrix: TwoFour | NM, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """The linear layer y = x W^T + bias: x [..., in] to [..., out]; `bias` is [out] or None."""
    if isinstance(matrix, NM):
        return nm_linear(matrix.values, matrix.indices, x, bias, n=matrix.n, m=matrix.m)
    out, ins = matrix.shape
    if x.numel() == 0:
        y = x.new_zeros(*x.shape[:-1], out)
        return y if bias is None else y + bias
    samples = x.reshape(-1, ins)
    padded = _filled(samples, len(samples) + -len(samples) % _SAMPLES, ins + -ins % _SIDE)
    rows = out + -out % _SIDE
    offset = None if bias is None else F.pad(bias, (0, rows - out))
    algorithm = _fastest(rows, padded.shape[1], len(padded), x.dtype, x.device)
    y = torch._cslt_sparse_mm(
        matrix.packed, padded.T, bias=offset, transpose_result=True, alg_id=algorithm
    )
    return y[: len(samples), :out].reshape(*x.shape[:-1], out)


def two_four_conv2d(
    matrix: TwoFour | NM,
    x: Tensor,
    bias: Tensor | None = None,
    *,
    kernel: Pair,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    order: str = "flattened",
) -> Tensor:
    """A convolution of one group whose GEMM view is `matrix`: [n, c, h, w] to [n, out, h', w'].

    `order` says how the columns of the matrix run, and with them the fours: "flattened" over
    (channel, kernel row, kernel column), as S2 has it, or "channel" over (kernel row, kernel
    column, channel), for which channels_last inputs are gathered in long stretches. The result is
    channels_last, as the product gives it.
    """
    view = _patches(x, kernel, stride, padding, dilation)
    batch, channels, _, _, height, width = view.shape
    across = (1, 2, 3) if order == "flattened" else (2, 3, 1)
    gathered = view.permute(0, 4, 5, *across).reshape(
        batch * height * width, channels * kernel[0] * kernel[1]
    )
    y = two_four_linear(matrix, gathered, bias)
    return y.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _filled(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """The matrix, contiguous, with zeros below and beside it up to that size."""
    if matrix.shape != (rows, columns):
        matrix = F.pad(matrix, (0, columns - matrix.shape[1], 0, rows - len(matrix)))
    return matrix.contiguous()


def _patches(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """View x [n, c, h, w] as [n, c, kernel rows, kernel columns, h', w'].

    Entry [b, c, i, j] is the image that place (i, j) of every kernel meets. Only padding copies.
    """
    down, right = padding
    padded = F.pad(x, (right, right, down, down)) if any(padding) else x
    sizes = [
        (extent - reach * (taps - 1) - 1) // step + 1
        for extent, taps, step, reach in zip(
            padded.shape[2:], kernel, stride, dilation, strict=True
        )
    ]
    n, c, h, w = padded.stride()
    return padded.as_strided(
        (*padded.shape[:2], *kernel, *sizes),
        (n, c, h * dilation[0], w * dilation[1], h * stride[0], w * stride[1]),
        padded.storage_offset(),
    )


@cache
def _fastest(out: int, ins: int, samples: int, dtype: torch.dtype, device: torch.device) -> int:
    """The library's fastest algorithm for a shape, timed once on random operands.

    Timing needs a stream that is not being captured into a CUDA graph: multiply once before.
    """
    matrix = torch.randn(out, ins // 4, 4, dtype=dtype, device=device)
    matrix[..., 2:] = 0
    packed = torch._cslt_compress(matrix.view(out, ins))
    x = torch.randn(samples, ins, dtype=dtype, device=device)
    times: list[float] = []
    for algorithm in range(_ALGORITHMS):
        try:
            times.append(_milliseconds(packed, x, algorithm))
        except RuntimeError:
            break
    return times.index(min(times)) if times else 0


def _milliseconds(packed: Tensor, x: Tensor, algorithm: int) -> float:
    """The least time of a few products."""
    events = [torch.cuda.Event(enable_timing=True) for _ in range(_TIMED + 1)]
    for event in events:
        torch._cslt_sparse_mm(packed, x.T, transpose_result=True, alg_id=algorithm)
        event.record()
    events[-1].synchronize()
    return min(start.elapsed_time(end) for start, end in pairwise(events))
