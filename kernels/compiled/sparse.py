"""Products of a CSR or BSR matrix with many samples, and of two dense ones where CSR has entries.

One sample, or a few, are for `dots.py`.

Samples lie side by side, 64 of them in one wide vector: x is laid out anew as [piece, in, 64] once.
An entry of W then costs one broadcast and four (of 16 floats) multiply-adds straight out of the
second-level cache, whose sums stay in registers for a whole row; a block of W uses what it loads of
x for four rows. y is turned to its layout 16 rows at a time.

Bytes moved: 8 an entry and 64 samples for CSR, 4 for BSR; operations: 2 an entry and sample.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from . import dots
from .jit import compiled, share
from .vectors import add, load, splat, store, sum_of, times

_LANES = 64
_FEW_LANES = 16
_HALF = 32
_TILE = 16
# Samples that are laid out anew at once.
_MOST = 1024
# Operations for which a thread pays, and entries that are only read once.
_WORTH_A_THREAD = 1 << 21
_ENTRIES_WORTH_A_THREAD = 1 << 18

Floats = NDArray[np.float32]


def multiply(matrix: Tensor, x: Tensor, y: Tensor, bias: Tensor | None) -> None:
    """Write x W^T + bias to y [n, out], for x [n, in], both float32 of any strides.

    `matrix` is W as torch's CSR or square BSR, float32 with int32 indices; it may reach over the
    edges of x and y.
    """
    crow, columns, values = _parts(matrix)
    side = matrix.values().shape[-1] if matrix.layout == torch.sparse_bsr else 1
    offset = _offset(bias, y.shape[1])
    if dots.serves(side, len(x)):
        beyond = matrix.shape[1] - x.shape[1]
        given = (F.pad(x, (0, beyond)) if beyond else x).contiguous()
        dots.multiply(crow, columns, values, side, given.numpy(), offset, y.numpy())
        return
    for start in range(0, len(x), _MOST):
        source, target = x[start : start + _MOST].numpy(), y[start : start + _MOST].numpy()
        few = len(source) <= _FEW_LANES
        lanes = _FEW_LANES if few else _LANES
        laid = _laid_out(source, matrix.shape[1], lanes)
        if side == 1:
            rows = partial(_csr_few if few else _csr_many, crow, columns, values)
        else:
            rows = partial(_bsr_few if few else _bsr_many, crow, columns, values, side)
        work = 2 * len(values) * len(source)
        rows = partial(rows, laid, matrix.shape[1], offset, target)
        share(rows, matrix.shape[0] // side, work // _WORTH_A_THREAD)


def sampled(crow: Tensor, columns: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The values [nnz] of A B^T at the places of a CSR pattern, int32; a [out, n], b [in, n].

    Both float32 of any strides.
    """
    values = torch.zeros(len(columns))
    rows_at, columns_at = crow.contiguous().numpy(), columns.contiguous().numpy()
    for start in range(0, a.shape[1], _MOST):
        left, right = (side[:, start : start + _MOST].t().numpy() for side in (a, b))
        first, second = (_laid_out(each, each.shape[1], _LANES) for each in (left, right))
        pieces = -(-len(left) // _LANES)
        rows = partial(_sampled, rows_at, columns_at, first, second, pieces, values.numpy())
        share(rows, len(a), 2 * len(columns) * len(left) // _WORTH_A_THREAD)
    return values


def _offset(bias: Tensor | None, out: int) -> Floats:
    if bias is None:
        return np.zeros(out, np.float32)
    offset: Floats = bias.detach().float().contiguous().numpy()
    return offset


def _parts(matrix: Tensor) -> list[NDArray[Any]]:
    parts = matrix.crow_indices(), matrix.col_indices(), matrix.values().flatten()
    return [part.contiguous().numpy() for part in parts]


def _laid_out(x: Floats, wide: int, lanes: int) -> Floats:
    """The samples of x [n, in] side by side: [pieces, wide, lanes], flat, zeros behind them."""
    laid = np.empty(-(-len(x) // lanes) * wide * lanes, np.float32)
    tiles = -(-wide // _TILE)
    share(partial(_lay, x, lanes, laid, wide), tiles, len(laid) // _ENTRIES_WORTH_A_THREAD)
    return laid


@compiled("void(f4[:, :], i8, f4[::1], i8, i8, i8)")
def _lay(x: Any, lanes: Any, laid: Any, wide: Any, first: Any, end: Any) -> None:
    n, ins = x.shape
    for piece in range(-(-n // lanes)):
        start = piece * lanes
        given = min(lanes, n - start)
        for tile in range(first, end):
            left, right = tile * _TILE, min((tile + 1) * _TILE, wide)
            inside = min(right, ins)
            if given < lanes or inside < right:
                laid[start * wide + left * lanes : start * wide + right * lanes] = 0
            for s in range(given):
                for c in range(left, inside):
                    laid[start * wide + c * lanes + s] = x[start + s, c]


@compiled()
def _write(tile: Any, lanes: Any, row: Any, count: Any, start: Any, bias: Any, y: Any) -> None:
    """Turn [rows, lanes] sums to rows `start` and on of y [n, out], from `row` on."""
    n, out = y.shape
    for s in range(min(lanes, n - start)):
        for r in range(min(count, out - row)):
            y[start + s, row + r] = tile[r * lanes + s] + bias[row + r]


def _for_csr(lanes: int) -> Callable[..., None]:
    @compiled("void(i4[::1], i4[::1], f4[::1], f4[::1], i8, f4[::1], f4[:, :], i8, i8)")
    def rows(
        crow: Any,
        columns: Any,
        values: Any,
        x: Any,
        wide: Any,
        bias: Any,
        y: Any,
        first: Any,
        end: Any,
    ) -> None:
        tile = np.empty(_TILE * lanes, np.float32)
        zero = splat(np.float32(0), lanes)
        for start in range(0, len(y), lanes):
            for top in range(first, end, _TILE):
                count = min(_TILE, end - top)
                for r in range(count):
                    a, b = zero, zero
                    k, stop = np.int64(crow[top + r]), np.int64(crow[top + r + 1])
                    while k + 1 < stop:
                        at = start * wide + np.int64(columns[k]) * lanes
                        a = add(a, times(splat(values[k], lanes), load(x, at, lanes)))
                        at = start * wide + np.int64(columns[k + 1]) * lanes
                        b = add(b, times(splat(values[k + 1], lanes), load(x, at, lanes)))
                        k += 2
                    if k < stop:
                        at = start * wide + np.int64(columns[k]) * lanes
                        a = add(a, times(splat(values[k], lanes), load(x, at, lanes)))
                    store(tile, r * lanes, add(a, b))
                _write(tile, lanes, top, count, start, bias, y)

    return rows


def _for_bsr(lanes: int, part: int) -> Callable[..., None]:
    """For samples of which `part` at a time have their sums in registers."""

    @compiled("void(i4[::1], i4[::1], f4[::1], i8, f4[::1], i8, f4[::1], f4[:, :], i8, i8)")
    def rows(
        crow: Any,
        columns: Any,
        values: Any,
        side: Any,
        x: Any,
        wide: Any,
        bias: Any,
        y: Any,
        first: Any,
        end: Any,
    ) -> None:
        tile = np.empty(4 * lanes, np.float32)
        zero = splat(np.float32(0), part)
        for start in range(0, len(y), lanes):
            for line in range(first, end):
                for r in range(0, side, 4):
                    count = min(4, side - r)
                    # Rows beyond the block repeat its last one, and are not written.
                    r1, r2, r3 = min(1, count - 1), min(2, count - 1), min(3, count - 1)
                    for lane in range(0, lanes, part):
                        a, b, c, d = zero, zero, zero, zero
                        for k in range(crow[line], crow[line + 1]):
                            at = (start * wide + np.int64(columns[k]) * side * lanes) + lane
                            w = (k * side + r) * side
                            for place in range(w, w + side):
                                v = load(x, at, part)
                                w1, w2 = values[place + r1 * side], values[place + r2 * side]
                                a = add(a, times(splat(values[place], part), v))
                                b = add(b, times(splat(w1, part), v))
                                c = add(c, times(splat(w2, part), v))
                                d = add(d, times(splat(values[place + r3 * side], part), v))
                                at += lanes
                        store(tile, lane, a)
                        store(tile, lane + lanes, b)
                        store(tile, lane + 2 * lanes, c)
                        store(tile, lane + 3 * lanes, d)
                    _write(tile, lanes, line * side + r, count, start, bias, y)

    return rows


_csr_few, _csr_many = _for_csr(_FEW_LANES), _for_csr(_LANES)
_bsr_few, _bsr_many = _for_bsr(_FEW_LANES, _FEW_LANES), _for_bsr(_LANES, _HALF)


@compiled("void(i4[::1], i4[::1], f4[::1], f4[::1], i8, f4[::1], i8, i8)")
def _sampled(
    crow: Any, columns: Any, a: Any, b: Any, pieces: Any, found: Any, first: Any, end: Any
) -> None:
    out, ins = len(a) // pieces, len(b) // pieces
    for piece in range(pieces):
        for r in range(first, end):
            v = load(a, piece * out + r * _LANES, _LANES)
            for k in range(crow[r], crow[r + 1]):
                at = piece * ins + np.int64(columns[k]) * _LANES
                found[k] += sum_of(times(v, load(b, at, _LANES)))
