from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.kernels import reference
from secateur.kernels.products import cpu_sparse, sddmm
from secateur.kernels.products.cpu_sparse import CpuSparse, sparse_linear_cpu, sparse_matrix_cpu

sizes = st.integers(1, 70)


def matrix(out: int, ins: int, density: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(out, ins, generator=generator) < density
    return torch.randn(out, ins, generator=generator) * kept


@given(
    sizes,
    sizes,
    st.integers(0, 9) | st.integers(0, 140),
    st.floats(0, 1),
    st.sampled_from([1, 2, 3, 4, 8, 16, 32]),
)
def test_any_shape_block_and_batch(out, ins, samples, density, side):
    dense = matrix(out, ins, density, seed=out)
    weight = CpuSparse.from_dense(dense, side)
    x, bias = torch.randn(samples, ins), torch.randn(out)
    wanted = reference.linear(dense, x, bias)
    assert (sparse_linear_cpu(weight, x, bias) - wanted).norm() <= 1e-5 * wanted.norm()
    turned = sparse_matrix_cpu(weight, x.t(), bias)
    assert turned.is_contiguous()
    assert (turned.t() - wanted).norm() <= 1e-5 * wanted.norm()


@pytest.mark.parametrize("side", [1, 8])
@pytest.mark.parametrize("samples", [3, 16, 300, 1100])
def test_large_ones_are_shared_out_among_threads(side, samples):
    dense = matrix(1080, 1030, 0.5, seed=1)
    x = torch.randn(samples, 1030)
    wanted = reference.linear(dense, x)
    found = sparse_linear_cpu(CpuSparse.from_dense(dense, side), x)
    assert (found - wanted).norm() <= 1e-5 * wanted.norm()


@given(sizes, sizes, st.integers(0, 140), st.floats(0, 1))
def test_samples_of_a_product(out, ins, samples, density):
    stored = matrix(out, ins, density, seed=ins).to_sparse_csr()
    a, b = torch.randn(out, samples), torch.randn(samples, ins).t()
    crow, columns = stored.crow_indices(), stored.col_indices()
    wanted = (a.double() @ b.double().t())[stored.to_dense() != 0]
    found = sddmm.sddmm(crow, columns, a, b)
    assert (found - wanted).norm() <= 1e-5 * wanted.norm()


def test_without_the_compiler_the_products_are_the_same(monkeypatch):
    dense = matrix(24, 40, 0.3, seed=2)
    stored, x = dense.to_sparse_csr(), torch.randn(20, 40)
    parts = stored.crow_indices(), stored.col_indices()
    weights = [CpuSparse.from_dense(dense, side) for side in (1, 8)]

    def results() -> list[torch.Tensor]:
        linear = [sparse_linear_cpu(weight, x, x[0, :24]) for weight in weights]
        turned = sparse_matrix_cpu(weights[0], x.t(), x[0, :24])
        return [*linear, turned, sddmm.sddmm(*parts, x[:, :24].t(), x.t())]

    compiled = results()
    for module in (cpu_sparse, sddmm):
        monkeypatch.setattr(module, "ready", lambda: False)
    for one, other in zip(compiled, results(), strict=True):
        torch.testing.assert_close(one, other)
