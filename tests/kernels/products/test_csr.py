"""The CSR products and the sampled product against double precision."""

from __future__ import annotations

import pytest
import torch

from secateur.kernels import reference
from secateur.kernels.formats import CSR
from secateur.kernels.products.csr_spmm import csr_linear, csr_spmm, row_order
from secateur.kernels.products.sddmm import sddmm

# Relative to the norm; sums are in fp32 and rounded once.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 5e-4, torch.bfloat16: 4e-3}
DTYPES = list(TOLERANCE)
# (out, in, columns of X): whole packs, single entries, more than one tile, nothing at all.
SHAPES = [(1, 1, 1), (17, 33, 3), (13, 40, 16), (9, 70, 136), (40, 21, 8), (0, 5, 4), (4, 5, 0)]


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scattered(out, ins, density, dtype):
    """A matrix with zeros anywhere; its second row is empty, its third full."""
    kept = torch.rand(out, ins, generator=torch.Generator().manual_seed(1)) < density
    kept[1:2] = False
    kept[2:3] = True
    return (seeded(out, ins) * kept).to(dtype)


def csr(matrix, backend):
    stored = CSR.from_dense(matrix.to(backend.device))
    return *stored.indices32, stored.values


def close(result, expected, dtype):
    assert result.dtype == dtype
    assert result.shape == expected.shape
    assert result.is_contiguous()
    error = (result.cpu().double() - expected).norm()
    assert error <= TOLERANCE[dtype] * expected.norm(), float(error / expected.norm())


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("out", "ins", "n"), SHAPES)
def test_spmm(backend, dtype, density, out, ins, n):
    matrix, x = scattered(out, ins, density, dtype), seeded(ins, n, seed=2).to(dtype)
    crow, columns, values = csr(matrix, backend)
    expected = reference.linear(matrix, x.T).T
    for order in (None, row_order(crow)):
        with backend.active():
            result = csr_spmm(crow, columns, values, x.to(backend.device), order=order)
        close(result, expected, dtype)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("out", "ins", "batch"), SHAPES)
def test_linear(backend, dtype, density, out, ins, batch):
    matrix, x = scattered(out, ins, density, dtype), seeded(batch, ins, seed=2).to(dtype)
    bias = seeded(out, seed=3).to(dtype)
    stored, on = csr(matrix, backend), backend.device
    with backend.active():
        plain = csr_linear(*stored, x.to(on))
        biased = csr_linear(*stored, x.to(on), bias=bias.to(on))
    close(plain, reference.linear(matrix, x), dtype)
    close(biased, reference.linear(matrix, x, bias), dtype)


@pytest.mark.parametrize("batch", [(), (2, 3), (2, 0)])
def test_linear_takes_any_leading_dimensions(backend, batch):
    matrix, x = scattered(6, 9, 0.5, torch.float32), seeded(*batch, 9, seed=2).float()
    with backend.active():
        result = csr_linear(*csr(matrix, backend), x.to(backend.device))
    close(result, reference.linear(matrix, x), torch.float32)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("out", "ins", "n"), SHAPES)
def test_sddmm(backend, dtype, density, out, ins, n):
    stored = CSR.from_dense(scattered(out, ins, density, dtype))
    a, b = seeded(out, n, seed=2).to(dtype), seeded(ins, n, seed=3).to(dtype)
    entries = stored.entries()
    expected = reference.sampled_product(a, b, entries.rows, entries.columns)
    crow, columns, a, b = (part.to(backend.device) for part in (*stored.indices32, a, b))
    for order in (None, row_order(crow)):
        with backend.active():
            result = sddmm(crow, columns, a, b, order=order)
        close(result, expected, dtype)


def test_parts_of_larger_tensors(backend):
    """Views that are not contiguous, not aligned, and indices that are narrow."""
    matrix = scattered(11, 24, 0.4, torch.float32)
    stored = CSR.from_dense(matrix.to(backend.device))
    wide = seeded(20, 24, seed=2).float().to(backend.device)
    x = wide.flatten()[1:193].view(24, 8)
    values = torch.stack([stored.values, stored.values], dim=1)[:, 1]
    with backend.active():
        product = csr_spmm(stored.crow_indices, stored.col_indices, values, x)
        transposed = csr_linear(stored.crow_indices, stored.col_indices, values, x.T)
        few = csr_linear(stored.crow_indices, stored.col_indices, values, wide[::4])
        sampled = sddmm(stored.crow_indices, stored.col_indices, product.T.contiguous().T, x)
    close(product, reference.linear(matrix, x.cpu().T).T, torch.float32)
    close(few, reference.linear(matrix, wide.cpu()[::4]), torch.float32)
    close(transposed, reference.linear(matrix, x.cpu().T), torch.float32)
    entries = stored.entries()
    expected = reference.sampled_product(
        product.cpu(), x.cpu(), entries.rows.cpu(), entries.columns.cpu()
    )
    close(sampled, expected, torch.float32)


def test_nothing_of_x_that_is_not_asked_for_is_read(backend):
    """An infinity in a column that no entry names stays out of the result."""
    matrix = torch.zeros(5, 8)
    matrix[:, 3] = 1.0
    x = torch.ones(8, 12)
    x[0] = torch.inf
    stored = csr(matrix, backend)
    with backend.active():
        wide = csr_spmm(*stored, x.to(backend.device))
        few = csr_linear(*stored, x.T[:4].contiguous().to(backend.device))
    assert wide.cpu().equal(torch.ones(5, 12))
    assert few.cpu().equal(torch.ones(4, 5))


def test_one_dtype_for_all(backend):
    if backend.name == "torch":
        pytest.skip("the CPU takes a mixture")
    stored = csr(scattered(4, 6, 0.5, torch.float32), backend)
    x = torch.ones(6, 4, device=backend.device)
    with backend.active():
        with pytest.raises(TypeError, match=r"torch\.float16 and torch\.float32"):
            csr_spmm(*stored, x.half())
        with pytest.raises(TypeError, match=r"not torch\.float64"):
            sddmm(*stored[:2], stored[2].new_ones(4, 4).double(), x.double())
