"""N of every M by the kernels, against the plain definition by a stable sort of each run."""

import pytest
import torch

from secateur.kernels import reference
from secateur.kernels.formats import NM
from secateur.kernels.selection.packing import pack_n_of_m
from secateur.kernels.selection.select import keep_n_of_m

pytestmark = pytest.mark.usefixtures("poisoned")
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def matrix(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """Half of it with many ties; it lies column by column in memory."""
    drawn = torch.randn(rows, columns, generator=torch.Generator().manual_seed(columns))
    drawn[: rows // 2] = drawn[: rows // 2].round()
    return drawn.to(dtype).t().contiguous().t()


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 4), (0, 4), (5, 8), (3, 16), (31, 32)])
def test_masks(backend, dtype, n, m):
    for rows, columns in ((7, 64), (6, 45), (3, 2), (0, 8), (8, 0)):
        scores = matrix(rows, columns, dtype)
        with backend.active():
            mask = keep_n_of_m(scores.to(backend.device), n, m)
        assert torch.equal(mask.cpu(), reference.keep_n_of_m(scores, n, m)), (rows, columns)


@pytest.mark.parametrize(("n", "m", "step"), [(2, 4, 9), (3, 8, 2), (8, 16, 3), (1, 32, 4)])
@pytest.mark.parametrize("columns", [72, 50, 3])
def test_masks_of_entries_apart(backend, n, m, step, columns):
    scores = matrix(10, columns, torch.float32)
    with backend.active():
        mask = keep_n_of_m(scores.to(backend.device), n, m, step)
        strided = keep_n_of_m(scores.contiguous().to(backend.device), n, m, step)
    assert torch.equal(mask.cpu(), reference.keep_n_of_m(scores, n, m, step))
    assert torch.equal(strided.cpu(), mask.cpu())


def test_more_runs_than_a_block_has(backend):
    scores = matrix(9, 140, torch.float32)
    with backend.active():
        mask = keep_n_of_m(scores.to(backend.device), 2, 4)
        apart = keep_n_of_m(scores.to(backend.device), 2, 4, 5)
    assert torch.equal(mask.cpu(), reference.keep_n_of_m(scores, 2, 4))
    assert torch.equal(apart.cpu(), reference.keep_n_of_m(scores, 2, 4, 5))


def test_the_lowest_there_are_go_before_the_filling(backend):
    scores = torch.tensor([[-torch.inf, 1.0, -torch.inf, 0.0, -0.0, -torch.inf]])
    with backend.active():
        mask = keep_n_of_m(scores.to(backend.device), 2, 4)
    assert mask.tolist() == [[False, True, False, True, True, False]]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 8), (7, 16), (32, 32), (2, 5)])
def test_packed_at_once(backend, dtype, n, m):
    for rows, columns in ((40, 32), (5, 43), (0, 8), (3, 0)):
        weight = matrix(rows, columns, dtype)
        with backend.active():
            packed = pack_n_of_m(weight.to(backend.device), n, m)
        kept = reference.keep_n_of_m(weight.abs(), n, m)
        assert torch.equal(packed.to_dense().cpu(), weight * kept), (rows, columns)
        meta = packed.meta()
        read = NM.from_parts(packed.parts(), meta)
        assert torch.equal(read.to_dense(), packed.to_dense())


def test_packing_equals_storing_what_is_kept(backend):
    weight = torch.randn(300, 24, generator=torch.Generator().manual_seed(3)) + 10
    with backend.active():
        packed = pack_n_of_m(weight.to(backend.device), 3, 8)
    stored = NM.from_dense(weight * reference.keep_n_of_m(weight.abs(), 3, 8), 3, 8)
    assert torch.equal(packed.values.cpu(), stored.values)
    assert torch.equal(packed.indices.cpu(), stored.indices)


def test_what_is_no_pattern_is_refused():
    with pytest.raises(ValueError, match="5:4 is no N:M pattern"):
        pack_n_of_m(torch.rand(2, 8), 5, 4)
