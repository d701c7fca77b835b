"""Kernel patterns (S4, PCONV): a small library of entry patterns, and the best one per kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from .kernel_choice import choose_cuda, serves
from .select import keep_n_of_m

# Kernels with no more positions than this have so few patterns that all can be counted.
_FEW = 16


def learn(kernels: Tensor, entries: int, size: int) -> Tensor:
    """Return the library learned from a layer: bool [at most `size`, taps], `entries` True in each.

    `kernels` holds float scores [n, taps]. Each kernel's natural pattern is its `entries` highest
    scores; the patterns that occur most often make the library, ties in order of their positions.
    """
    natural = keep_n_of_m(kernels, entries, kernels.shape[1])
    if kernels.shape[1] <= _FEW:
        return _often_few(natural, size)
    found, counts = natural.unique(dim=0, return_counts=True)
    # Sorted as bits, so from behind: those with the earlier positions first.
    often = torch.argsort(counts.flip(0), descending=True, stable=True)[:size]
    return found.flip(0)[often]


def _often_few(patterns: Tensor, size: int) -> Tensor:
    """The `size` most frequent rows of `patterns`, bool [n, at most 16], by counting them all."""
    taps = patterns.shape[1]
    weights = 2.0 ** torch.arange(taps - 1, -1, -1, device=patterns.device)
    counts = torch.bincount((patterns.float() @ weights).long(), minlength=2**taps).flip(0)
    often = torch.argsort(counts, descending=True, stable=True)[:size]
    codes = 2**taps - 1 - often[counts[often] > 0]
    return codes.unsqueeze(1).bitwise_and(weights.long()) > 0


def choose(kernels: Tensor, library: Tensor) -> Tensor:
    """Return the bool mask [n, taps] that gives each kernel the pattern it scores highest on.

    `kernels` holds additive float scores [n, taps] (squares: the largest L2 norm), `library` is
    bool [patterns, taps]. Among equals the earlier pattern of the library is taken.
    """
    if serves(kernels):
        return choose_cuda(kernels, library)[0]
    energy = kernels.float() @ library.float().T
    return library[energy.argmax(dim=1)]
