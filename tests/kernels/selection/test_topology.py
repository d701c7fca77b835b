"""A CSR matrix whose small entries go and in which others grow, against its dense picture."""

import pytest
import torch

from secateur.kernels.formats import CSR, Entries
from secateur.kernels.selection.topology import evolve, steered

pytestmark = pytest.mark.usefixtures("poisoned")
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def case(shape, density, threshold, grow, dtype, seed=0):
    """A matrix, grown entries where none stays, and the dense picture of what must come out.

    The pictures are of the values, of which entries there are, and of where they were before.
    """
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(shape, generator=generator).to(dtype)
    active = torch.rand(shape, generator=generator) < density
    matrix = CSR.from_mask(dense, active)
    # In 16 bits the threshold itself would be rounded.
    stays = active & (dense.to(torch.promote_types(dtype, torch.float32)).abs() > threshold)
    grown = ~stays & (torch.rand(shape, generator=generator) < grow)
    news = torch.randn(shape, generator=generator).to(dtype)
    news[:, ::3] = 0  # entries that have just grown may be zero
    places = torch.full(shape, -1, dtype=torch.int32)
    places[active] = torch.arange(int(active.sum()), dtype=torch.int32)
    values = torch.where(grown, news, dense)
    sources = places.masked_fill(grown, -1)
    return matrix, Entries.of(news, grown), values, stays | grown, sources


def on(device: torch.device, matrix: CSR, grown: Entries) -> tuple[CSR, Entries]:
    parts = {name: part.to(device) for name, part in matrix.parts().items()}
    moved = (each.to(device) for each in (grown.rows, grown.columns, grown.values))
    return CSR.from_parts(parts, matrix.meta()), Entries(grown.shape, *moved)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "density", "threshold", "grow"),
    [
        ((9, 40), 0.4, 0.5, 0.1),
        ((5, 200), 0.7, 0.6, 0.5),  # more than a warp's width in a row, of both
        ((3, 64), 1.0, 0.0, 0.0),
        ((3, 64), 1.0, 9.0, 1.0),  # all go, all grow
        ((4, 100), 0.0, 0.5, 0.6),
        ((8, 33), 0.9, 0.8, 0.05),
        ((0, 5), 0.5, 0.5, 0.5),
        ((5, 0), 0.5, 0.5, 0.5),
    ],
)
def test_an_update_is_what_its_dense_picture_says(backend, dtype, shape, density, threshold, grow):
    matrix, grown, values, kept, sources = case(shape, density, threshold, grow, dtype)
    with backend.active():
        evolved = evolve(*_swap(on(backend.device, matrix, grown), threshold))
    expected = CSR.from_mask(values, kept)
    for name, part in evolved.matrix.parts().items():
        assert part.dtype == (dtype if name == "values" else torch.int32), name
        assert torch.equal(part.cpu(), expected.parts()[name].to(part.dtype)), name
    assert torch.equal(evolved.sources.cpu(), sources[kept])


def _swap(moved: tuple[CSR, Entries], threshold: float) -> tuple[CSR, float, Entries]:
    return moved[0], threshold, moved[1]


def test_states_follow_their_entries(backend):
    matrix, grown, _, kept, sources = case((20, 50), 0.5, 0.4, 0.2, torch.float32)
    momentum = torch.rand(len(matrix.values)) + 1
    with backend.active():
        evolved = evolve(*_swap(on(backend.device, matrix, grown), 0.4))
        carried = evolved.carry(momentum.to(backend.device)).cpu()
    at = sources[kept]
    assert torch.equal(carried, torch.where(at < 0, 0, momentum[at.long().clamp_min(0)]))
    assert (carried == 0).sum() == len(grown.values)


def test_nothing_need_grow(backend):
    matrix, grown, *_ = case((6, 70), 0.5, 0.4, 0.0, torch.float32)
    with backend.active():
        evolved = evolve(on(backend.device, matrix, grown)[0], 0.4)
        empty = evolve(evolved.matrix, 99.0)
    dense = matrix.to_dense()
    assert torch.equal(evolved.matrix.to_dense().cpu(), dense * (dense.abs() > 0.4))
    assert len(empty.matrix.values) == 0
    assert empty.carry(evolved.matrix.values).shape == (0,)


def test_growing_out_of_nothing(backend):
    shape = (2, 3)
    nothing = CSR.from_dense(torch.zeros(shape))
    grown = Entries(shape, torch.tensor([0, 1]), torch.tensor([2, 0]), torch.tensor([0.0, 5.0]))
    with backend.active():
        evolved = evolve(*_swap(on(backend.device, nothing, grown), 1.0))
    assert evolved.matrix.col_indices.tolist() == [2, 0]
    assert evolved.matrix.to_dense().tolist() == [[0, 0, 0], [5, 0, 0]]
    assert evolved.carry(evolved.matrix.values[:0]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([0, 0], [1, 3], "1 of the grown entries are in the matrix already"),
        ([0, 0], [2, 2], "none twice"),
        ([1, 0], [2, 2], "in row order"),
        ([0, 2], [2, 1], "lie in the matrix"),
        ([0, 1], [2, 4], "lie in the matrix"),
        ([0, 1], [2, -1], "lie in the matrix"),
    ],
)
def test_entries_that_cannot_grow_are_refused(backend, rows, columns, message):
    matrix = CSR.from_dense(torch.tensor([[0.0, 0.1, 0.0, 2.0], [3.0, 0.0, 0.0, 0.0]]))
    grown = Entries((2, 4), torch.tensor(rows), torch.tensor(columns), torch.zeros(2))
    moved = on(backend.device, matrix, grown)
    with backend.active(), pytest.raises(ValueError, match=message):
        evolve(*_swap(moved, 0.5))


def test_what_does_not_fit_is_refused():
    matrix = CSR.from_dense(torch.eye(3))
    with pytest.raises(ValueError, match="-1 is no threshold"):
        evolve(matrix, -1)
    with pytest.raises(ValueError, match="nan is no threshold"):
        evolve(matrix, float("nan"))
    with pytest.raises(ValueError, match=r"of \(2, 3\) do not fit"):
        evolve(matrix, 0.5, Entries.of(torch.eye(2, 3)))
    with pytest.raises(ValueError, match="float64 entries"):
        evolve(matrix, 0.5, Entries.of(torch.eye(3).double()))


def test_a_threshold_comes_to_its_target():
    sizes = torch.rand(2000, generator=torch.Generator().manual_seed(0))
    threshold = 0.001
    for _ in range(200):
        threshold = steered(threshold, int((sizes <= threshold).sum()), 2000, 0.25)
    assert 0.22 < float((sizes <= threshold).float().mean()) < 0.28
    assert steered(0.5, 25, 100, 0.25) == 0.5
