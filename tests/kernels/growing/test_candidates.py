"""Where new weights come, against the whole gradient, which only a test makes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.kernels.formats import CSR
from secateur.kernels.growing import candidates
from secateur.kernels.growing.candidates import completed, costliest, drawn, largest


def sparse(shape, density, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) < density
    return CSR.from_mask(torch.randn(shape, generator=generator), mask), mask


def expected(gradient, mask, rows, count):
    """The places [out, in] of the largest gradients in some rows where there is no weight."""
    sizes = torch.full_like(gradient, 0)
    sizes[rows] = gradient[rows].abs()
    sizes[mask] = 0
    places = torch.zeros_like(mask)
    chosen = sizes.flatten().topk(min(count, int((sizes > 0).sum()))).indices
    places.view(-1)[chosen] = True
    return places


@pytest.mark.parametrize("block", [1, 50, 1 << 18])
@given(
    out=st.integers(1, 12),
    ins=st.integers(1, 30),
    density=st.floats(0, 1),
    count=st.integers(0, 60),
    seed=st.integers(0, 99),
)
def test_the_largest_gradients_are_found_block_by_block(block, out, ins, density, count, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_BLOCK", block)
        matrix, mask = sparse((out, ins), density, seed)
        gradient = torch.randn(out, ins, generator=torch.Generator().manual_seed(seed + 1))
        rows = torch.randperm(out)[: max(1, out // 2)]
        found = largest(matrix, count, lambda some: gradient[some].clone(), rows)
    places = expected(gradient, mask, rows, count)
    assert torch.equal(found.mask(), places)
    assert torch.equal(found.values, gradient[places])


def test_no_block_of_the_gradient_is_as_large_as_the_layer():
    matrix, _ = sparse((600, 1000), 0.05)
    asked = []

    def gradient(rows):
        asked.append(len(rows))
        return torch.ones(len(rows), 1000)

    largest(matrix, 10, gradient, torch.arange(600))
    assert sum(asked) == 600
    assert max(asked) * 1000 <= 1 << 18


def test_places_without_a_gradient_are_no_candidates():
    matrix, _ = sparse((4, 6), 0.3)
    found = largest(matrix, 5, lambda rows: torch.zeros(len(rows), 6), torch.arange(4))
    assert len(found.values) == 0


@given(
    out=st.integers(1, 30), ins=st.integers(1, 20), density=st.floats(0, 1), seed=st.integers(0, 99)
)
def test_the_costliest_outputs_are_sqrt_of_the_new_weights_or_enough_for_them(
    out, ins, density, seed
):
    matrix, mask = sparse((out, ins), density, seed)
    costs = torch.rand(out, generator=torch.Generator().manual_seed(seed))
    count = int((~mask).sum()) // 2
    rows = costliest(costs, matrix, count)
    assert torch.equal(costs[rows], costs.sort(descending=True).values[: len(rows)])
    room = (~mask)[rows].sum(1)
    assert int(room.sum()) >= count
    fewer = max(1, len(rows) - 1)
    assert len(rows) in (1, math.ceil(math.sqrt(count))) or int(room[:fewer].sum()) < count


@given(
    out=st.integers(1, 12), ins=st.integers(1, 12), density=st.floats(0, 1), seed=st.integers(0, 99)
)
def test_chance_draws_places_that_are_free_and_none_twice(out, ins, density, seed):
    matrix, mask = sparse((out, ins), density, seed)
    free = int((~mask).sum())
    generator = torch.Generator().manual_seed(seed)
    for count in {0, free // 3, free}:
        places = drawn(matrix, count, generator).mask()
        assert int(places.sum()) == count
        assert not bool((places & mask).any())
    with pytest.raises(ValueError, match="are without a weight"):
        drawn(matrix, free + 1, generator)


def test_chance_draws_every_free_place_equally_often():
    matrix, mask = sparse((3, 10), 0.5)
    generator, free = torch.Generator().manual_seed(0), int((~mask).sum())
    for count in (2, free - 2):
        times = sum(drawn(matrix, count, generator).mask().float() for _ in range(2000))
        wanted = 2000 * count / free
        assert (times[~mask] - wanted).abs().max() < 0.2 * wanted + 60


def test_what_the_gradient_does_not_fill_chance_does():
    matrix, mask = sparse((8, 9), 0.3)
    generator = torch.Generator().manual_seed(0)
    found = largest(matrix, 7, lambda rows: torch.ones(len(rows), 9), torch.arange(8))
    filled = completed(found, matrix, 30, generator)
    assert int(filled.mask().sum()) == 30
    assert not bool((filled.mask() & mask).any())
    assert bool((filled.mask() | ~found.mask()).all())
    assert int((filled.values == 1).sum()) == 7
    assert int(completed(None, matrix, 4, generator).mask().sum()) == 4
