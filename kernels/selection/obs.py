"""Optimal brain surgeon along a matrix's columns (SparseGPT, Frantar & Alistarh 2023, alg. 1).

To prune w_j, the OBS update of the weights still to come is -w_j / [H⁻¹]ⱼⱼ · H⁻¹[j, :], with H⁻¹
the inverse over exactly these. Going from left to right, all these inverses are rows of one
Cholesky factor, so that every row of W shares it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Choose = Callable[[Tensor, int], Tensor]
"""From scores, float32 [out, columns], and the first column's index to a bool mask, True: kept."""

AT_ONCE = 128
"""Columns after which the rest of the matrix is updated."""
_EXACT_UP_TO = 4096
"""Columns up to which the inverse is computed in float64; beyond, that takes too much memory."""


def inverse(hessian: Tensor, damp: float) -> Tensor:
    """(H + damp · mean(diag H) · I)⁻¹ of [groups, in, in], float64 or for large ones float32.

    Raises ArithmeticError where H is not finite, or with so little `damp` not positive definite.
    """
    size = hessian.shape[-1]
    damped = hessian.to(torch.float64 if size <= _EXACT_UP_TO else torch.float32, copy=True)
    diagonal = damped.diagonal(dim1=-2, dim2=-1)
    mean = diagonal.mean(dim=-1, keepdim=True)
    # Inputs that are all zero say nothing: any weight may go, and none is changed.
    diagonal += torch.where(mean > 0, damp * mean, torch.ones_like(mean))
    factor, failed = torch.linalg.cholesky_ex(damped)
    if bool(failed.any()) or not bool(torch.isfinite(factor).all()):
        raise ArithmeticError("X·Xᵀ of its inputs cannot be inverted")
    return torch.cholesky_inverse(factor)


def saliency(weight: Tensor, inverted: Tensor) -> Tensor:
    """w² / [H⁻¹]ⱼⱼ, float32 [out, in]: by how much removing w alone raises the squared error."""
    groups, ins = inverted.shape[:2]
    each = inverted.diagonal(dim1=-2, dim2=-1).unsqueeze(1)
    split = weight.detach().to(inverted.dtype).reshape(groups, -1, ins)
    return (split.square() / each).view(weight.shape).float()


def sweep(weight: Tensor, inverted: Tensor, width: int, choose: Choose) -> tuple[Tensor, Tensor]:
    """Prune `weight` [out, in] from left to right; return the bool mask and the new float32 weight.

    `inverted` is H⁻¹ [groups, in, in] of equal stretches of outputs. `choose` is called for `width`
    columns at a time (fewer at the end) with the scores as earlier columns have left them.
    """
    out, columns = weight.shape
    groups = len(inverted)
    factor = torch.linalg.cholesky(inverted, upper=True)
    left = weight.detach().to(inverted.dtype, copy=True).reshape(groups, -1, columns)
    kept = torch.ones_like(left, dtype=torch.bool)
    # Later columns are updated for many at once: one product in place of many thin ones.
    span = max(1, AT_ONCE // width) * width
    for start in range(0, columns, span):
        stop = min(columns, start + span)
        errors = left.new_zeros(*left.shape[:2], stop - start)
        for j in range(start, stop):
            if (j - start) % width == 0:
                end = min(stop, j + width)
                scales = factor.diagonal(dim1=-2, dim2=-1)[:, None, j:end]
                scores = (left[:, :, j:end] / scales).square_().reshape(out, -1).float()
                kept[:, :, j:end] = choose(scores, j).view(groups, -1, end - j)
            gone = ~kept[:, :, j]
            error = left[:, :, j] * gone / factor[:, j, j].unsqueeze(1)
            left[:, :, j:stop] -= error.unsqueeze(2) * factor[:, j, j:stop].unsqueeze(1)
            left[:, :, j].masked_fill_(gone, 0)  # no rounding residue
            errors[:, :, j - start] = error
        if stop < columns:
            left[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    return kept.view(out, columns), left.view(out, columns).float()
