"""Results against the same in double precision."""

from __future__ import annotations

import torch

TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 6e-3}


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(found: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype) -> None:
    assert found.dtype == dtype
    assert found.shape == wanted.shape
    error = (found.cpu().double() - wanted).norm()
    assert error <= TOLERANCE[dtype] * wanted.norm(), float(error / wanted.norm())
