"""Choosing the entries to prune: by rank, by size, and N of every M. Ties fall to lower indices.

On the CPU selection is NumPy's introselect (linear, one thread) where `torch.topk` and
`torch.kthvalue` are 6 to 30 times slower on large tensors; on a GPU it is a stable sort.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def lowest(scores: Tensor, count: int) -> Tensor:
    """Return a bool tensor, True at the `count` lowest scores. Ties: lower flat index first.

    `scores` is floating, any shape, without NaN. O(n) on the CPU.
    """
    total = scores.numel()
    if not 0 <= count <= total:
        raise ValueError(f"cannot choose {count} of {total} entries")
    flat = scores.detach().float().reshape(-1)
    if count in (0, total):
        return torch.full_like(scores, count > 0, dtype=torch.bool)
    threshold = _kth_lowest(flat, count)
    chosen = flat < threshold
    missing = count - int(chosen.sum())
    ties = torch.nonzero(flat == threshold).flatten()[:missing]
    chosen[ties] = True
    return chosen.view(scores.shape)


def _kth_lowest(flat: Tensor, k: int) -> float:
    """The k-th lowest value (k from 1) of a 1-d float32 tensor."""
    if flat.device.type == "cpu":
        return float(np.partition(flat.numpy(), k - 1)[k - 1])
    return float(flat.sort().values[k - 1])


def lowest_by_size(scores: Tensor, sizes: Tensor, budget: float) -> Tensor:
    """Like `lowest`, for units of unequal size: take the lowest until `budget` entries are chosen.

    Stops where the total is nearest to `budget`, so that it is missed by at most half a unit.
    """
    order = torch.argsort(scores.detach().float().reshape(-1), stable=True)
    totals = sizes.to(scores.device).reshape(-1)[order].cumsum(0)
    reached = torch.cat([totals.new_zeros(1), totals])
    count = int((reached - budget).abs().argmin())
    chosen = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    chosen[order[:count]] = True
    return chosen.view(scores.shape)


def keep_n_of_m(scores: Tensor, n: int, m: int) -> Tensor:
    """Return the bool mask that keeps the `n` highest of every `m` consecutive entries of a row.

    `scores` is [rows, columns]. A last run shorter than `m` is padded with entries that are never
    kept. Among ties the lower index is pruned first, as everywhere here.
    """
    rows, columns = scores.shape
    padded = torch.nn.functional.pad(scores.float(), (0, -columns % m), value=-torch.inf)
    runs = padded.reshape(-1, m)
    order = torch.argsort(runs, dim=1, stable=True)
    kept = torch.zeros_like(runs, dtype=torch.bool).scatter_(1, order[:, m - n :], True)
    return kept.view(rows, -1)[:, :columns].contiguous()
