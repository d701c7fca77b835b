"""The arrays of CSR and bitmap, made from a dense matrix on each backend, against the formats."""

import pytest
import torch

from secateur.kernels.formats import CSR, Bitmap
from secateur.kernels.formats.pack import bitmap_arrays, csr_arrays

pytestmark = pytest.mark.usefixtures("poisoned")

# Long rows are cut into pieces; the last has columns beyond 16 bits.
SHAPES = [(1, 1), (7, 33), (5, 256), (3, 257), (64, 96), (2, 2500), (0, 4), (4, 0), (1, 65537)]


def sparse(shape: tuple[int, int], dtype: torch.dtype, density: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(shape[1])
    matrix = torch.randn(shape, generator=generator)
    matrix[torch.rand(shape, generator=generator) >= density] = 0
    matrix[matrix < -2] = -0.0
    matrix[1:2] = 0  # an empty row
    return matrix.to(dtype)


def same(found, expected) -> bool:
    return all(
        a.dtype == b.dtype and torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_not_zero(backend, dtype, shape):
    matrix = sparse(shape, dtype, 0.3)
    with backend.active():
        csr = csr_arrays(matrix.to(backend.device))
        bitmap = bitmap_arrays(matrix.to(backend.device))
    stored = CSR.from_dense(matrix)
    assert same(csr, (stored.crow_indices, stored.col_indices, stored.values))
    bits = Bitmap.from_dense(matrix)
    assert same(bitmap, (bits.bits, bits.values))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_what_a_mask_keeps_though_it_is_zero(backend, shape, density):
    matrix = sparse(shape, torch.float32, 0.5).t().contiguous().t()  # not contiguous
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < density
    with backend.active():
        csr = csr_arrays(matrix.to(backend.device), mask.to(backend.device))
        bitmap = bitmap_arrays(matrix.to(backend.device), mask.to(backend.device))
    stored = CSR.from_mask(matrix, mask)
    assert same(csr, (stored.crow_indices, stored.col_indices, stored.values))
    bits = Bitmap.from_mask(matrix, mask)
    assert same(bitmap, (bits.bits, bits.values))


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"mask of \(2, 3\) does not fit \(3, 2\)"):
        csr_arrays(torch.ones(3, 2), torch.ones(2, 3, dtype=torch.bool))
