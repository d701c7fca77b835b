"""CSR products of scattered entries in fp32, against cuSPARSE through torch, and against dense."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from secateur.kernels.formats import CSR
from secateur.kernels.formats.bits import stable_order
from secateur.kernels.formats.entries import lines_of
from secateur.kernels.products.csr_spmm import csr_spmm, row_order
from secateur.kernels.products.sddmm import sddmm
from secateur.tests.bench.gpu.contest import Contest, contest
from secateur.tests.bench.gpu.setting import Case, Setting, trimmed

SHAPES = ((4096, 4096), (1024, 4096), (4096, 1024))
SAMPLES = (128, 512, 2048)
_TOLERANCE = 1e-4

Arrays = tuple[Tensor, Tensor, Tensor]

# Torch's own matrix; its checks of the indices would be timed too.
_csr = partial(torch.sparse_csr_tensor, check_invariants=False)


def products(setting: Setting, topic: str, sparsities: tuple[float, ...], peer: str) -> list[Case]:
    """W X; the peer is "cuSPARSE" or "cuBLAS"."""
    shapes = [(48, 64)] if setting.quick else SHAPES
    return [
        contest(
            topic,
            f"{out}x{ins}, {sparsity:.0%}, {samples} samples",
            partial(_product, out, ins, samples, sparsity, peer),
        )
        for sparsity in sparsities
        for samples in trimmed(SAMPLES, setting)
        for out, ins in shapes
    ]


def _arrays(matrix: Tensor) -> Arrays:
    stored = CSR.from_dense(matrix)
    return *stored.indices32, stored.values


def _product(
    out: int, ins: int, samples: int, sparsity: float, peer: str, setting: Setting
) -> Contest:
    weight = setting.randn(out, ins, fan=ins) * setting.scattered(out, ins, 1 - sparsity)
    arrays = _arrays(weight)
    matrix = _csr(*arrays, weight.shape)
    x = setting.randn(ins, samples)
    dense = partial(torch.mm, weight, x)
    vendor = partial(torch.matmul, matrix, x)
    ways = {"cuSPARSE": [vendor], "cuBLAS": [dense]}
    nonzeros = len(arrays[2])
    return Contest(
        ours=[partial(csr_spmm, *arrays, x, order=row_order(arrays[0]))],
        peers={peer: ways.pop(peer)},
        also=ways,
        wanted=dense,
        tolerance=_TOLERANCE,
        moved=sum(part.nbytes for part in arrays) + x.nbytes + 4 * out * samples,
        work=2.0 * nonzeros * samples,
    )


def gradients(setting: Setting, topic: str, sparsity: float) -> list[Case]:
    """Both gradients of a CSR layer: of its values (SDDMM) and of its input (W^T dY)."""
    shapes = (
        [(48, 64, 8)]
        if setting.quick
        else [(side, side, samples) for side in (3072, 4096) for samples in (128, 512)]
    )
    return [
        contest(
            topic,
            f"{out}x{ins}, {samples} samples",
            partial(_gradients, out, ins, samples, sparsity),
        )
        for out, ins, samples in shapes
    ]


def _gradients(out: int, ins: int, samples: int, sparsity: float, setting: Setting) -> Contest:
    weight = setting.randn(out, ins, fan=ins) * setting.scattered(out, ins, 1 - sparsity)
    crow, columns, values = _arrays(weight)
    places = stable_order(columns, ins)
    rows = lines_of(crow, len(columns))
    across = F.pad(torch.bincount(columns, minlength=ins).cumsum(0), (1, 0)).to(torch.int32)
    down = rows[places].to(torch.int32)
    grad, x = setting.randn(out, samples), setting.randn(ins, samples)
    order, order_across = row_order(crow), row_order(across)
    pattern = _csr(crow, columns, torch.zeros_like(values), weight.shape)
    matrix = _csr(crow, columns, values, weight.shape)

    def ours() -> tuple[Tensor, Tensor]:
        by_x = csr_spmm(across, down, values[places], grad, order=order_across)
        return sddmm(crow, columns, grad, x, order=order), by_x

    def sampled() -> Tensor:
        return torch.sparse.sampled_addmm(pattern, grad, x.t(), beta=0.0).values()

    def sorted_anew() -> tuple[Tensor, Tensor]:
        turned = _csr(across, down, values[places], (ins, out))
        return sampled(), turned @ grad

    def turned_view() -> tuple[Tensor, Tensor]:
        return sampled(), matrix.t() @ grad

    def wanted() -> tuple[Tensor, Tensor]:
        return (grad @ x.t())[rows, columns.long()], weight.t() @ grad

    nonzeros = len(values)
    moved = 2 * (8 * nonzeros + 4 * samples * (out + ins)) + 4 * nonzeros
    return Contest(
        ours=[ours],
        peers={"torch.sparse": [sorted_anew], "torch.sparse, CSC": [turned_view]},
        wanted=wanted,
        tolerance=_TOLERANCE,
        moved=moved,
        work=4.0 * nonzeros * samples,
    )
