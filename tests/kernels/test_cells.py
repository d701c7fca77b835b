"""Sums and peaks over rectangles of a matrix: pictures of tensors, and norms of blocks."""

import numpy as np
import pytest
import torch

from secateur.kernels import pyramid, pyramid_cuda, reference
from secateur.kernels.cells import REDUCTIONS, reduce_cells_cuda
from secateur.kernels.selection.block_scores import block_scores

pytestmark = pytest.mark.usefixtures("poisoned")
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
KERNELS = ["emulated", *(["cuda"] if torch.cuda.is_available() else [])]


def random(rows: int, columns: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows * columns)
    return torch.randn(rows, columns, generator=generator).to(dtype)


def near(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """To float32's rounding; sums that cancel are measured against the whole picture."""
    found = found.cpu().double()
    return found.shape == expected.shape and bool(
        (found - expected).norm() <= 1e-6 * expected.norm() + 1e-30
    )


@pytest.mark.parametrize("backend", KERNELS, indirect=True)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_any_borders(backend, reduction, dtype):
    matrix = random(150, 70, dtype)
    for rows, columns in (
        ([0, 150], [0, 70]),
        ([3, 4, 4, 20, 149], [0, 1, 2, 40, 40, 69]),  # two of them empty
        (list(range(0, 151, 2)), list(range(0, 71, 5))),
        ([5], [0, 70]),
    ):
        with backend.active():
            found = reduce_cells_cuda(
                matrix.to(backend.device), torch.tensor(rows), torch.tensor(columns), reduction
            )
        assert near(found, reference.cells(matrix, rows, columns, reduction)), (rows, columns)


@pytest.mark.parametrize("backend", KERNELS, indirect=True)
def test_cells_wider_and_taller_than_a_block(backend):
    for rows, columns in ((2, 2600), (700, 3)):
        matrix = random(rows, columns).t().contiguous().t()
        down, across = [0, rows // 2, rows], [0, columns - 1, columns]
        with backend.active():
            found = reduce_cells_cuda(
                matrix.to(backend.device), torch.tensor(down), torch.tensor(across), "square"
            )
        assert near(found, reference.cells(matrix, down, across, "square"))


@pytest.mark.parametrize("size", [(5, 9), (37, 53), (100, 4), (6, 100)])
@pytest.mark.parametrize("rect", [(0, 0, 37, 53), (3, 7, 30, 50), (36, 52, 37, 53)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels(backend, size, rect, dtype):
    matrix = random(37, 53, dtype)
    rows = pyramid.edges(rect[0], rect[2], size[0])
    columns = pyramid.edges(rect[1], rect[3], size[1])
    areas = torch.from_numpy(np.multiply.outer(np.diff(rows), np.diff(columns)))
    mask = matrix > 0.3
    with backend.active():
        device = matrix.to(backend.device)
        found = {
            "sum": pyramid_cuda.means(device, rows, columns),
            "magnitude": pyramid_cuda.magnitudes(device, rows, columns),
            "peak": pyramid_cuda.peaks(device, rows, columns),
        }
        density = pyramid_cuda.densities(mask.to(backend.device), rows, columns)
    for reduction, picture in found.items():
        expected = reference.cells(matrix, rows, columns, reduction)
        assert near(picture, expected if reduction == "peak" else expected / areas), reduction
    assert near(density, reference.cells(mask, rows, columns, "sum") / areas)


@pytest.mark.parametrize(
    ("height", "width"),
    [(4, 4), (3, 8), (1, 4), (1, 9), (40, 1), (1, 70), (7, 33), (64, 64), (100, 100)],
)
@pytest.mark.parametrize("power", [0, 1, 2])
def test_norms_of_blocks(backend, height, width, power):
    for dtype in DTYPES:
        matrix = random(70, 40, dtype).t()
        rows = [*range(0, 40, height), 40]
        columns = [*range(0, 70, width), 70]
        with backend.active():
            found = block_scores(matrix.to(backend.device), height, width, power)
        assert near(found, reference.cells(matrix, rows, columns, REDUCTIONS[power])), dtype


def test_blocks_of_nothing(backend):
    with backend.active():
        assert block_scores(torch.rand(0, 8, device=backend.device), 4, 4).shape == (0, 2)
        assert block_scores(torch.rand(8, 0, device=backend.device), 4, 4).shape == (2, 0)


def test_other_norms_are_refused():
    with pytest.raises(ValueError, match=r"\|w\|\^3 over blocks of 1x4"):
        block_scores(torch.rand(4, 4), 1, 4, 3)
    with pytest.raises(ValueError, match="blocks of 0x4"):
        block_scores(torch.rand(4, 4), 0, 4)
