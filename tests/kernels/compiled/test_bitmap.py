from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.kernels import reference
from secateur.kernels.compiled import bitmap
from secateur.kernels.modules.linear import SparseLinear
from secateur.kernels.products.bitmap import bitmap_linear, reads_bits
from secateur.kernels.products.bitmap_tiles import BitmapTiles


@pytest.fixture(scope="module", autouse=True)
def _everywhere():
    """Processors without the instruction can, they are only slower."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitmap, "EXPANDS", True)
        yield


def scattered(out: int, ins: int, density: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(out)
    kept = torch.rand(out, ins, generator=generator) < density
    return torch.randn(out, ins, generator=generator) * kept


@given(st.integers(1, 40), st.integers(1, 300), st.integers(0, 16), st.floats(0, 1))
def test_any_shape_and_few_samples(out, ins, samples, density):
    dense = scattered(out, ins, density)
    x, bias = torch.randn(ins, samples).t(), torch.randn(out)
    wanted = reference.linear(dense, x, bias)
    assert reads_bits(x)
    found = bitmap_linear(BitmapTiles.from_dense(dense), x, bias)
    assert (found - wanted).norm() <= 1e-5 * wanted.norm()


def test_large_ones_are_shared_out_among_threads():
    dense, x = scattered(1003, 2050, 0.4), torch.randn(4, 2050)
    wanted = reference.linear(dense, x)
    found = bitmap_linear(BitmapTiles.from_dense(dense), x)
    assert (found - wanted).norm() <= 1e-5 * wanted.norm()


@pytest.mark.parametrize(
    ("density", "samples", "unpacked"), [(0.5, 16, False), (0.5, 17, True), (0.1, 1, True)]
)
def test_a_layer_is_unpacked_only_where_that_pays(density, samples, unpacked):
    dense = torch.nn.Linear(256, 128).requires_grad_(False)
    dense.weight.copy_(scattered(128, 256, density))
    layer = SparseLinear.from_dense(dense, "bitmap")
    x = torch.randn(samples, 256)
    torch.testing.assert_close(layer(x), dense(x), rtol=1e-4, atol=1e-4)
    assert (layer.matrix_on_cpu(x) is not None) == unpacked
