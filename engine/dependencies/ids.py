"""Arrays of ids: which channel each position of a tensor is.

A *part* is an int64 array that broadcasts to its tensor's shape: it has size 1 along dimensions in
which the id is the same throughout. Id 0 stands for no channel. A tensor has several parts where
several dimensions vary independently of each other, like a weight's outputs and inputs; no two
parts of a tensor vary along the same dimension.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]
Shape = tuple[int, ...]


def varying(part: Ids) -> frozenset[int]:
    """The dimensions along which the ids of a part differ."""
    return frozenset(dim for dim, size in enumerate(part.shape) if size > 1)


def compressed(array: Ids, dims: range | None = None) -> Ids:
    """The same array with size 1 along those of `dims` (default all) where nothing changes."""
    for dim in dims if dims is not None else range(array.ndim):
        if array.shape[dim] > 1:
            first = array.take([0], axis=dim)
            if np.array_equal(np.broadcast_to(first, array.shape), array):
                array = first
    return array


def spread(array: Any, shape: Shape, dims: frozenset[int] | range) -> Any:
    """The array with its full size along `dims`."""
    target = [shape[d] if d in dims else n for d, n in enumerate(array.shape)]
    return np.broadcast_to(array, target)


def reshaped(array: Any, before: Shape, after: Shape) -> Any:
    """What a compressed array [before] becomes when its tensor is viewed as [after].

    The dimensions are taken in the smallest runs that have equally many entries before and after,
    and only a run along which something varies is written out.
    """
    if prod(before) == 0:
        return array.reshape(-1)[:1].reshape([1] * len(after)) if array.size else array
    left = right = 0
    pieces: list[tuple[range, range]] = []
    while left < len(before) or right < len(after):
        start, to = left, right
        one, two = 1, 1
        while True:
            if one <= two and left < len(before) and (one < two or left == start):
                one *= before[left]
                left += 1
            elif right < len(after) and (two < one or right == to):
                two *= after[right]
                right += 1
            elif one == two:
                break
            else:
                raise ValueError(f"{before} cannot be seen as {after}")
        # Sizes of 1 go along with what is before them.
        while left < len(before) and before[left] == 1:
            left += 1
        while right < len(after) and after[right] == 1:
            right += 1
        pieces.append((range(start, left), range(to, right)))
    sizes: list[int] = []
    target: list[int] = []
    vary: list[range] = []
    for old, new in pieces:
        if any(array.shape[d] > 1 for d in old):
            sizes += [before[d] for d in old]
            target += [after[d] for d in new]
            vary.append(new)
        else:
            sizes += [1] * len(old)
            target += [1] * len(new)
    result = np.broadcast_to(array, sizes).reshape(target)
    for new in vary:
        result = compressed(result, new)
    return result


class Components:
    """Connected components of ids under a growing list of pairs."""

    def __init__(self, count: int) -> None:
        self.labels: Ids = np.arange(count)

    def join(self, left: Ids, right: Ids) -> None:
        """Unite pairs of ids, both int64 [n]."""
        labels = self.labels
        a, b = labels[left], labels[right]
        while True:
            differs = a != b
            if not differs.any():
                break
            a, b = a[differs], b[differs]
            low, high = np.minimum(a, b), np.maximum(a, b)
            np.minimum.at(labels, high, low)
            while True:
                jumped = labels[labels]
                if np.array_equal(jumped, labels):
                    break
                labels[:] = jumped
            a, b = labels[a], labels[b]
        self.labels = labels
