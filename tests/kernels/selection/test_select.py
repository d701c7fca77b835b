"""The choice of the lowest scores, against the plain definition by a stable sort."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.kernels.selection.select import (
    Ranking,
    SizedRanking,
    keep_n_of_m,
    lowest,
    lowest_by_size,
)


def by_sort(scores: torch.Tensor, count: int) -> torch.Tensor:
    chosen = torch.zeros(scores.numel(), dtype=torch.bool)
    chosen[torch.argsort(scores.float().flatten(), stable=True)[:count]] = True
    return chosen.view(scores.shape)


few_values = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 7.0]), min_size=1, max_size=60)


@given(few_values, st.data())
@settings(deadline=None)
def test_lowest_is_a_stable_sort(values, data):
    scores = torch.tensor(values)
    count = data.draw(st.integers(0, len(values)))
    assert torch.equal(lowest(scores, count), by_sort(scores, count))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_lowest_keeps_the_shape_and_takes_any_float(dtype):
    scores = torch.rand(7, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    chosen = lowest(scores, 12)
    assert chosen.shape == (7, 5)
    assert torch.equal(chosen, by_sort(scores, 12))


def test_lowest_refuses_what_it_cannot_choose():
    with pytest.raises(ValueError, match="cannot choose 4 of 3"):
        lowest(torch.rand(3), 4)
    with pytest.raises(ValueError, match="cannot choose -1 of 3"):
        Ranking(torch.rand(3)).lowest(-1)


def test_a_ranking_answers_every_count_in_any_order():
    generator = torch.Generator().manual_seed(2)
    # Long enough to be halved several times, with many ties, a whole third of them at zero.
    scores = (torch.rand(3, 400_000, generator=generator) * 5000).floor()
    scores[0] = 0
    ranking = Ranking(scores)
    before = scores.clone()
    for count in (600_000, 600_001, 0, 1, 1_200_000, 200_000, 1_199_999, 600_000, 3, 900_001):
        assert torch.equal(ranking.lowest(count), by_sort(scores, count)), count
    assert torch.equal(scores, before)


def test_a_ranking_leaves_its_answers_alone():
    ranking = Ranking(torch.arange(10.0))
    first = ranking.lowest(4)
    first.logical_not_()
    assert ranking.lowest(4).sum() == 4


@given(few_values, st.floats(0, 1), st.data())
@settings(deadline=None)
def test_units_of_unequal_size_come_nearest_to_the_budget(values, share, data):
    scores = torch.tensor(values)
    sizes = torch.tensor(data.draw(st.lists(
        st.integers(1, 9), min_size=len(values), max_size=len(values)
    )))  # fmt: skip
    budget = share * int(sizes.sum())
    chosen = lowest_by_size(scores, sizes, budget)
    assert torch.equal(chosen, by_sort(scores, int(chosen.sum())))
    assert abs(int(sizes[chosen].sum()) - budget) <= int(sizes.max()) / 2 + 1e-3
    assert torch.equal(SizedRanking(scores, sizes).lowest(budget), chosen)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 2), (1, 4), (4, 4), (3, 8), (5, 16), (4, 32)])
@pytest.mark.parametrize("columns", [1, 3, 32, 37])
@pytest.mark.parametrize("ties", [False, True])
def test_keep_n_of_m_keeps_the_highest_of_each_run(n, m, columns, ties):
    scores = torch.rand(11, columns, generator=torch.Generator().manual_seed(3))
    if ties:
        scores = (scores * 3).floor()
    mask = keep_n_of_m(scores, n, m)
    for row in range(len(scores)):
        for start in range(0, columns, m):
            run = scores[row, start : start + m]
            padding = m - len(run)  # padding ranks below all and takes no kept place
            pruned = by_sort(run, max(0, m - n - padding))
            assert torch.equal(mask[row, start : start + m], ~pruned)


def test_keep_n_of_m_works_through_many_runs():
    scores = torch.rand(300, 600, generator=torch.Generator().manual_seed(4))
    mask = keep_n_of_m(scores, 2, 4)
    runs, kept = scores.view(-1, 4), mask.view(-1, 4)
    assert (kept.sum(1) == 2).all()
    lowest_kept = runs.masked_fill(~kept, 2).amin(1)
    assert (lowest_kept > runs.masked_fill(kept, -1).amax(1)).all()


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 3), (4, 8), (3, 80)])
@pytest.mark.parametrize("channels", [1, 4, 7, 24, 100])
@pytest.mark.parametrize("step", [1, 2, 9])
def test_runs_may_lie_apart(n, m, channels, step):
    scores = (torch.rand(5, channels * step) * 4).floor()
    lanes = scores.view(5, channels, step).transpose(1, 2).reshape(-1, channels)
    expected = keep_n_of_m(lanes, n, m).view(5, step, channels).transpose(1, 2)
    assert torch.equal(keep_n_of_m(scores, n, m, step), expected.reshape(scores.shape))


def test_many_runs_that_lie_apart():
    scores = torch.rand(300, 9 * 64, generator=torch.Generator().manual_seed(7))
    kept = keep_n_of_m(scores, 2, 4, 9)
    assert (kept.view(300, 16, 4, 9).sum(2) == 2).all()
