from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from secateur.kernels.formats.bsr import BSR
from secateur.kernels.formats.csr import CSR
from secateur.kernels.products.cpu_sparse import CpuSparse, sparse_linear_cpu

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13, torch.float16: 1e-3, torch.bfloat16: 5e-3}
# One below and above each limit: single samples, few, a full run of 16, a piece and more.
BATCHES = [(), (0,), (1,), (2,), (3,), (4,), (5,), (16,), (3, 7), (65,), (2, 1, 80)]


def matrix(out: int, ins: int, density: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(out + ins)
    kept = torch.rand(out, ins, generator=generator) < density
    return (torch.randn(out, ins, generator=generator) * kept).to(dtype)


def from_csr(dense: torch.Tensor) -> CpuSparse:
    stored = CSR.from_dense(dense)
    parts = stored.crow_indices, stored.col_indices, stored.values
    return CpuSparse.from_csr(*parts, stored.shape)


def from_bsr(dense: torch.Tensor, block: tuple[int, int]) -> CpuSparse:
    stored = BSR.from_dense(dense, block)
    parts = stored.crow_indices, stored.col_indices, stored.values
    return CpuSparse.from_bsr(*parts, stored.shape)


def compare(weight: CpuSparse, dense: torch.Tensor, batch: tuple[int, ...], bias: bool) -> None:
    x = torch.randn(*batch, dense.shape[1]).to(dense.dtype)
    offset = torch.randn(len(dense)).to(dense.dtype) if bias else None
    found = sparse_linear_cpu(weight, x, offset)
    wanted = F.linear(x.double(), dense.double(), None if offset is None else offset.double())
    assert found.shape == wanted.shape
    assert found.dtype == dense.dtype
    assert found.is_contiguous()
    assert (found.double() - wanted).norm() <= TOLERANCE[dense.dtype] * wanted.norm()


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
def test_csr(batch, density, poisoned):
    for shape in ((13, 29), (40, 24), (1, 7)):
        dense = matrix(*shape, density)
        compare(from_csr(dense), dense, batch, bias=density > 0.1)


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize(
    "block", [(2, 2), (4, 4), (8, 8), (16, 16), (8, 4), (3, 5), (1, 4), (1, 1)]
)
def test_bsr(block, batch, poisoned):
    for shape, density in (((32, 48), 0.03), ((13, 29), 0.1), ((13, 29), 0.0), ((16, 16), 1.0)):
        dense = matrix(*shape, density)
        compare(from_bsr(dense, block), dense, batch, bias=density > 0)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_every_floating_dtype(dtype, poisoned):
    dense = matrix(24, 32, 0.2, dtype)
    for batch in ((), (3,), (20,)):
        compare(from_csr(dense), dense, batch, bias=True)
        compare(from_bsr(dense, (8, 8)), dense, batch, bias=True)
        compare(CpuSparse.from_dense(dense, 4), dense, batch, bias=True)


def test_squares_are_as_large_as_the_blocks_allow():
    dense = matrix(24, 24, 0.5)
    sides = {(8, 8): 8, (8, 4): 4, (6, 9): 3, (1, 8): 1, (5, 4): 1}
    assert {block: from_bsr(dense, block).block for block in sides} == sides


def test_an_input_of_any_layout():
    dense = matrix(12, 20, 0.3)
    for x in (torch.randn(20, 6).t(), torch.randn(6, 40)[:, ::2], torch.randn(1, 20).expand(6, 20)):
        for weight in (from_csr(dense), CpuSparse.from_dense(dense, 4)):
            torch.testing.assert_close(sparse_linear_cpu(weight, x), x @ dense.t())
