"""A dense matrix, and if need be a mask, to the arrays of CSR and bitmap, on the device."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..cuda.launch import launch, launchable
from ..cuda.source import Source
from .bits import narrow

# Values are copied as integers of their size.
_WORDS = {
    2: (torch.int16, "unsigned short"),
    4: (torch.int32, "unsigned"),
    8: (torch.int64, "unsigned long long"),
}
_INDICES = {
    torch.uint8: "unsigned char",
    torch.uint16: "unsigned short",
    torch.int32: "int",
}

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("pack_count", "pack_fill"),
    tuple({"WORD": w, "INDEX": i} for _, w in _WORDS.values() for i in _INDICES.values()),
)

_PIECE = 1024
_WARPS = 8


def serves(matrix: Tensor) -> bool:
    """Whether the kernel can pack this matrix [out, in], where it is."""
    small = matrix.shape[1] <= 1 << 31
    return matrix.element_size() in _WORDS and small and launchable(matrix)


def csr_arrays_cuda(matrix: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """``crow_indices, col_indices, values`` as `CSR` has them, of a floating [out, in] matrix.

    The entries are those where the bool `mask` [out, in] is True, without it those that are not
    zero. On a GPU this waits once for the device, to learn how many there are. Raises ValueError
    for a mask of another shape.
    """
    _check(matrix, mask)
    out, columns = matrix.shape
    words, flags, variant = _words(matrix, mask, columns)
    pieces = -(-columns // _PIECE)
    ends = _count(words, flags, out, columns, variant, None)
    starts = pad(ends, (1, 0))
    crow = starts[::pieces] if pieces else starts.new_zeros(out + 1)
    kept = int(starts[-1])
    index = narrow(torch.empty(0, dtype=torch.int64, device=matrix.device), columns - 1)
    values, indices = words.new_empty(kept), index.new_empty(kept)
    args = (words, flags, out, columns, ends, values, indices)
    launch(SOURCE, "pack_fill", _grid(out * pieces), (_WARPS * 32,), args, variant=variant)
    return narrow(crow, kept), indices, values.view(matrix.dtype)


def bitmap_arrays_cuda(matrix: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``bits, values`` as `Bitmap` has them; see `csr_arrays_cuda`."""
    _check(matrix, mask)
    count = matrix.numel()
    words, flags, variant = _words(matrix, mask, 1)
    bits = torch.empty(-(-count // 32), dtype=torch.int32, device=matrix.device)
    ends = _count(words, flags, 1, count, variant, bits)
    values = words.new_empty(int(ends[-1]) if count else 0)
    args = (words, flags, 1, count, ends, values, words.new_empty(0))
    launch(SOURCE, "pack_fill", _grid(len(ends)), (_WARPS * 32,), args, variant=variant)
    return bits.view(torch.uint8)[: -(-count // 8)], values.view(matrix.dtype)


def _check(matrix: Tensor, mask: Tensor | None) -> None:
    if mask is not None and mask.shape != matrix.shape:
        raise ValueError(f"a mask of {tuple(mask.shape)} does not fit {tuple(matrix.shape)}")


def _words(
    matrix: Tensor, mask: Tensor | None, columns: int
) -> tuple[Tensor, Tensor, dict[str, str]]:
    """The matrix as integers, the mask or an empty tensor, and what the kernel is compiled for."""
    dtype, word = _WORDS[matrix.element_size()]
    words = matrix.detach().contiguous().view(dtype)
    flags = words.new_empty(0, dtype=torch.bool) if mask is None else mask.contiguous()
    index = narrow(torch.empty(0, dtype=torch.int64), columns - 1).dtype
    return words, flags, {"WORD": word, "INDEX": _INDICES[index]}


def _count(
    words: Tensor,
    flags: Tensor,
    rows: int,
    columns: int,
    variant: dict[str, str],
    bits: Tensor | None,
) -> Tensor:
    """Running sums of what each piece of the rows keeps, int64 [rows * pieces]."""
    pieces = rows * -(-columns // _PIECE)
    counts = torch.empty(pieces, dtype=torch.int32, device=words.device)
    bits = counts.new_empty(0) if bits is None else bits
    args = (words, flags, rows, columns, counts, bits)
    launch(SOURCE, "pack_count", _grid(pieces), (_WARPS * 32,), args, variant=variant)
    return counts.cumsum(0)


def _grid(pieces: int) -> tuple[int]:
    return (-(-pieces // _WARPS),)
