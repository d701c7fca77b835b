"""Formats made from a dense matrix on each backend, by `pack.cu` where there is a device."""

import pytest
import torch

from secateur.kernels.cuda.launch import launching
from secateur.kernels.formats import COO, CSC, CSR, DOK, ELL, Bitmap, Hybrid, SparseMatrix
from secateur.kernels.products.bitmap_tiles import BitmapTiles

pytestmark = pytest.mark.usefixtures("poisoned")

# Long rows are cut into pieces; the last has columns beyond 16 bits.
SHAPES = [(1, 1), (7, 33), (5, 256), (3, 257), (64, 96), (2, 2500), (0, 4), (4, 0), (1, 65537)]
FORMATS = (COO, CSR, CSC, DOK, ELL, Bitmap, Hybrid)


def sparse(shape: tuple[int, int], dtype: torch.dtype, density: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(shape[1])
    matrix = torch.randn(shape, generator=generator)
    matrix[torch.rand(shape, generator=generator) >= density] = 0
    matrix[matrix < -2] = -0.0
    matrix[1:2] = 0  # an empty row
    return matrix.to(dtype)


def same(found: SparseMatrix, expected: SparseMatrix) -> bool:
    parts = found.parts(), expected.parts()
    return parts[0].keys() == parts[1].keys() and all(
        a.dtype == b.dtype and torch.equal(a.cpu(), b)
        for a, b in zip(parts[0].values(), parts[1].values(), strict=True)
    )


def check_csr(stored: CSR, matrix: torch.Tensor, mask: torch.Tensor) -> None:
    """Against torch's own list of places."""
    assert torch.equal(stored.crow_indices.cpu().long().diff(), mask.sum(dim=1))
    assert torch.equal(stored.col_indices.cpu().long(), mask.nonzero()[:, 1])
    assert torch.equal(stored.values.cpu(), matrix[mask])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_not_zero(backend, dtype, shape):
    matrix = sparse(shape, dtype, 0.3)
    with backend.active():
        made = [kind.from_dense(matrix.to(backend.device)) for kind in FORMATS]
    check_csr(made[1], matrix, matrix != 0)
    for kind, found in zip(FORMATS, made, strict=True):
        assert same(found, kind.from_dense(matrix)), kind.kind


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_what_a_mask_keeps_though_it_is_zero(backend, shape, density):
    matrix = sparse(shape, torch.float32, 0.5).t().contiguous().t()  # not contiguous
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < density
    on = matrix.to(backend.device), mask.to(backend.device)
    with backend.active():
        made = [kind.from_mask(*on) for kind in FORMATS]
        tiles = BitmapTiles.from_dense(*on)
    check_csr(made[1], matrix, mask)
    for kind, found in zip(FORMATS, made, strict=True):
        assert same(found, kind.from_mask(matrix, mask)), kind.kind
    expected = BitmapTiles.from_dense(matrix, mask)
    for name in ("words", "offsets", "values"):
        assert torch.equal(getattr(tiles, name).cpu(), getattr(expected, name)), name


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.kind)
def test_the_kernel_is_what_packs(kind):
    """Where something launches kernels, both ways into a format go through this one."""

    class Launched(Exception):
        pass

    def launcher(source, function, *_):
        raise Launched(function)

    matrix = sparse((7, 33), torch.float32, 0.3)
    with launching(launcher):
        with pytest.raises(Launched, match="pack_count"):
            kind.from_dense(matrix)
        with pytest.raises(Launched, match="pack_count"):
            kind.from_mask(matrix, matrix != 0)
        eight = matrix.to(torch.float8_e4m3fn)  # of a size that the kernel does not take
        assert kind.from_dense(eight).shape == (7, 33)


def test_a_mask_of_another_shape_is_refused(backend):
    matrix, mask = torch.ones(3, 2), torch.ones(2, 3, dtype=torch.bool)
    for kind in FORMATS:
        with (
            backend.active(),
            pytest.raises(ValueError, match=r"mask of \(2, 3\) does not fit \(3, 2\)"),
        ):
            kind.from_mask(matrix.to(backend.device), mask.to(backend.device))
