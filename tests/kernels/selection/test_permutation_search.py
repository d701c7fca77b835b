"""The table that judges all exchanges of channels, and searches by it on each backend."""

import pytest
import torch

from secateur.kernels import reference
from secateur.kernels.selection.permutation import kept, search
from secateur.kernels.selection.permutation_search import larger_sums

pytestmark = pytest.mark.usefixtures("poisoned")


def random(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(
    ("places", "channels", "rows"),
    [(8, 8, 5), (1, 70, 33), (66, 3, 64), (20, 65, 300), (4, 4, 0), (0, 3, 5), (3, 0, 5)],
)
def test_sums_of_the_larger(backend, places, channels, rows):
    limits, columns = random(rows, places).t(), random(channels + 1, rows)[1:]
    with backend.active():
        sums = larger_sums(limits.to(backend.device), columns.to(backend.device)).cpu()
    expected = reference.larger_sums(limits, columns)
    assert sums.shape == (places, channels)
    assert (sums - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize(("n", "m", "channels"), [(2, 4, 24), (1, 4, 18), (4, 8, 16)])
def test_a_search_finds_as_much(backend, n, m, channels):
    scores = random(30, channels)
    with backend.active():
        order = search(scores.to(backend.device), n, m)
        again = search(scores.to(backend.device), n, m)
    assert sorted(order.tolist()) == list(range(channels))
    assert torch.equal(order, again)
    by_torch = search(scores, n, m)
    before, found, expected = (kept(scores, n, m, o) for o in (None, order, by_torch))
    assert found > before
    assert found - before >= 0.9 * (expected - before)
