"""What each operation computes, in plain torch and double precision: the tests' definition."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import torch
from torch import Tensor
from torch.nn.functional import pad


def best_patterns(scores: Tensor, library: Tensor) -> Tensor:
    """For scores [n, taps] the number of the `library` pattern with the highest sum, int64 [n]."""
    sums = (scores.float().unsqueeze(1) * library).sum(dim=2)
    highest = sums == sums.amax(dim=1, keepdim=True)
    return highest.int().argmax(dim=1)  # the first of equal ones


def cells(matrix: Tensor, rows: Sequence[int], columns: Sequence[int], reduction: str) -> Tensor:
    """One of `cells.REDUCTIONS` over the rectangles between the borders, float64."""
    reduce = {
        "sum": lambda cell: cell.sum(),
        "magnitude": lambda cell: cell.abs().sum(),
        "square": lambda cell: cell.square().sum(),
        "peak": lambda cell: cell.abs().max() if cell.numel() else cell.sum(),
    }[reduction]
    bands = [matrix.double()[a:b] for a, b in pairwise(rows)]
    found = [reduce(band[:, a:b]) for band in bands for a, b in pairwise(columns)]
    return torch.tensor(found, dtype=torch.float64).view(len(rows) - 1, len(columns) - 1)


def convolution(
    weight: Tensor,
    x: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> Tensor:
    """A convolution with W[out, in / groups, *kernel], zeros and all: float64 [n, out, *outputs].

    Position by position: every pixel that a weight sees times that weight.
    """
    (batch, channels, *size), (out, _, *kernel) = x.shape, weight.shape
    wide = pad(x.double(), [side for each in reversed(padding) for side in (each, each)])
    outputs = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    ]
    y = torch.zeros(batch, groups, out // groups, *outputs, dtype=torch.float64)
    matrices = weight.double().unflatten(0, (groups, -1))
    for place in product(*map(range, kernel)):
        seen = wide
        for axis, (at, d, s, count) in enumerate(
            zip(place, dilation, stride, outputs, strict=True)
        ):
            seen = seen.narrow(axis + 2, at * d, (count - 1) * s + 1)
            seen = seen[(slice(None),) * (axis + 2) + (slice(None, None, s),)]
        seen = seen.reshape(batch, groups, channels // groups, *outputs)
        y += torch.einsum("goc,ngc...->ngo...", matrices[(..., *place)], seen)
    y = y.flatten(1, 2)
    return y if bias is None else y + bias.double().view(-1, *(1,) * len(kernel))


def keep_n_of_m(scores: Tensor, n: int, m: int, step: int = 1) -> Tensor:
    """The mask of the `n` last of each run of `m` entries `step` columns apart, sorted stably."""
    columns = scores.shape[1]
    padded = pad(scores.float(), (0, -columns % (m * step)), value=-torch.inf)
    runs = padded.view(len(scores), padded.shape[1] // (m * step), m, step)
    kept = torch.zeros_like(runs, dtype=torch.bool)
    kept.scatter_(2, torch.argsort(runs, dim=2, stable=True)[:, :, m - n :], True)
    return kept.view(padded.shape)[:, :columns]


def larger_sums(limits: Tensor, columns: Tensor) -> Tensor:
    """Sums over rows of max(limit, column), float64, for all pairs of lines of the two matrices."""
    return torch.maximum(limits.double().unsqueeze(1), columns.double()).sum(dim=2)


def linear(matrix: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer with W[out, in], zeros and all: x [..., in] to float64 [..., out]."""
    y = x.double() @ matrix.double().T
    return y if bias is None else y + bias.double()


def lowest(scores: Sequence[Tensor], count: int) -> list[Tensor]:
    """Masks of the first `count` of all scores, sorted stably by tensor and index."""
    flat = torch.cat([each.float().flatten() for each in scores])
    chosen = torch.zeros(len(flat), dtype=torch.bool)
    chosen[torch.argsort(flat, stable=True)[:count]] = True
    parts = chosen.split([each.numel() for each in scores])
    return [part.view(each.shape) for part, each in zip(parts, scores, strict=True)]


def sampled_product(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Entries (rows[k], columns[k]) of A[out, n] B[in, n]^T, float64."""
    return (a.double()[rows.long()] * b.double()[columns.long()]).sum(dim=1)


def spread_columns(values: Tensor, kept: Tensor, count: int) -> Tensor:
    """W[out, count] with values[:, k] in column kept[k] and zeros elsewhere."""
    matrix = values.new_zeros(len(values), count)
    matrix[:, kept.long()] = values
    return matrix
