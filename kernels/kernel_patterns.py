"""Kernel patterns (S4, PCONV): a small library of entry patterns, and the best one per kernel."""

from __future__ import annotations

import torch
from torch import Tensor


def learn(kernels: Tensor, entries: int, size: int) -> Tensor:
    """Return the library learned from a layer: bool [at most `size`, taps], `entries` True in each.

    `kernels` holds float scores [n, taps]. Each kernel's natural pattern is its `entries` highest
    scores; the patterns that occur most often make the library, ties in order of their positions.
    """
    order = torch.argsort(kernels, dim=1, stable=True)[:, -entries:]
    natural, counts = order.sort(dim=1).values.unique(dim=0, return_counts=True)
    often = torch.argsort(counts, descending=True, stable=True)[:size]
    library = torch.zeros(len(often), kernels.shape[1], dtype=torch.bool, device=kernels.device)
    return library.scatter_(1, natural[often], True)


def choose(kernels: Tensor, library: Tensor) -> Tensor:
    """Return the bool mask [n, taps] that gives each kernel the pattern it scores highest on.

    `kernels` holds additive float scores [n, taps] (squares: the largest L2 norm), `library` is
    bool [patterns, taps]. Among equals the earlier pattern of the library is taken.
    """
    energy = kernels @ library.to(kernels.dtype).T
    return library[energy.argmax(dim=1)]
