"""Choosing and storing in one go."""

from __future__ import annotations

import torch
from torch import Tensor

from ..formats.nm import NM
from .nm_mask import pack_n_of_m_cuda, serves
from .select import keep_n_of_m


def pack_n_of_m(weight: Tensor, n: int, m: int) -> NM:
    """Store the floating `weight` [out, in] with only the `n` largest of every run of `m` kept.

    Of entries of equal size the lower index goes. Raises ValueError unless 1 <= n <= m.
    """
    if not 1 <= n <= m:
        raise ValueError(f"{n}:{m} is no N:M pattern")
    weight = weight.detach()
    if serves(weight, m) and weight.dtype != torch.float64:
        return pack_n_of_m_cuda(weight, n, m)
    return NM.from_dense(weight.masked_fill(~keep_n_of_m(weight.abs(), n, m), 0), n, m)
