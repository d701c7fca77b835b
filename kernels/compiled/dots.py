"""Products of a CSR or BSR matrix with one sample or a few: entries of W lie side by side.

16 entries of a CSR row are one vector, whose entries of x are loaded one by one: that measured
faster than the processor's own gathers, and needs none. A block of BSR is a run of entries already,
64 of them in one vector, and the few entries of x that it meets are repeated over it.

Bytes moved: 8 an entry for CSR, 4 for BSR, out of whichever cache holds W. Operations: 2 an entry
and sample.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import compiled, share
from .vectors import add, fetch, gathered, load, repeated, splat, store, sum_of, times

_LANES = 16
_BLOCK_LANES = 64
# Values of blocks ahead of those that are read, to be fetched from memory.
_AHEAD = 1024
# Entries and samples for which a thread pays.
_CSR_WORTH_A_THREAD = 1 << 19
_BSR_WORTH_A_THREAD = 1 << 21

Floats = NDArray[np.float32]
_SIGNATURE = "void(i4[::1], i4[::1], f4[::1], f4[:, ::1], f4[::1], f4[:, :], i8, i8)"


def serves(side: int, samples: int) -> bool:
    """Whether this is the way for so many samples and squares of `side` (1: CSR).

    For more samples, and other squares, those of `sparse.py` are.
    """
    return samples <= 3 if side == 1 else side in _BSR and samples <= 8


def multiply(
    crow: NDArray[Any],
    columns: NDArray[Any],
    values: Floats,
    side: int,
    x: Floats,
    bias: Floats,
    y: Floats,
) -> None:
    """Write x W^T + bias to y [n, out], of any strides; x [n, in] is contiguous.

    `crow`, `columns` (int32) and `values` (flat) are those of W in squares of `side`. It reaches no
    further than x, but may reach over the edge of y.
    """
    rows = partial(_BSR.get(side, _csr), crow, columns, values, x, bias, y)
    worth = _CSR_WORTH_A_THREAD if side == 1 else _BSR_WORTH_A_THREAD
    share(rows, len(crow) - 1, len(values) * len(x) // worth)


@compiled(_SIGNATURE)
def _csr(
    crow: Any, columns: Any, values: Any, x: Any, bias: Any, y: Any, first: Any, end: Any
) -> None:
    zero = splat(np.float32(0), _LANES)
    for r in range(first, end):
        stop = np.int64(crow[r + 1])
        for s in range(len(x)):
            sample = x[s]
            a, b, rest = zero, zero, bias[r]
            k = np.int64(crow[r])
            while k + 2 * _LANES <= stop:
                v = gathered(sample, columns, k, _LANES)
                a = add(a, times(load(values, k, _LANES), v))
                k += _LANES
                v = gathered(sample, columns, k, _LANES)
                b = add(b, times(load(values, k, _LANES), v))
                k += _LANES
            if k + _LANES <= stop:
                a = add(a, times(load(values, k, _LANES), gathered(sample, columns, k, _LANES)))
                k += _LANES
            while k < stop:
                rest += values[k] * sample[columns[k]]
                k += 1
            y[s, r] = rest + sum_of(add(a, b))


def _for_bsr(side: int) -> Callable[..., None]:
    lanes = min(_BLOCK_LANES, side**2)
    count = lanes // side

    @compiled(_SIGNATURE)
    def rows(
        crow: Any, columns: Any, values: Any, x: Any, bias: Any, y: Any, first: Any, end: Any
    ) -> None:
        sums = np.empty(lanes, np.float32)
        for line in range(first, end):
            for s in range(len(x)):
                sample = x[s]
                for r in range(0, side, count):
                    a = splat(np.float32(0), lanes)
                    for k in range(crow[line], crow[line + 1]):
                        at = (k * side + r) * side
                        fetch(values, at + _AHEAD, lanes)
                        v = repeated(load(sample, np.int64(columns[k]) * side, side), lanes)
                        a = add(a, times(load(values, at, lanes), v))
                    store(sums, 0, a)
                    row = line * side + r
                    for i in range(min(count, y.shape[1] - row)):
                        y[s, row + i] = bias[row + i] + sum_of(load(sums, i * side, side))

    return rows


_BSR = {side: _for_bsr(side) for side in (4, 8, 16, 32)}
