"""A step of evolution: what goes, what comes, and that there are exactly as many as asked."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.kernels.formats import CSR
from secateur.kernels.growing.candidates import drawn
from secateur.kernels.growing.exchange import Pace, entries_of, exchange
from secateur.kernels.modules.evolving import evolving


def matrix_of(out, ins, density, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(out, ins, generator=generator) < density
    return CSR.from_mask(torch.randn(out, ins, generator=generator), mask)


def by_chance(seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda left, count: drawn(left, count, generator)


@given(
    out=st.integers(2, 20),
    ins=st.integers(2, 20),
    density=st.floats(0.1, 0.9),
    threshold=st.floats(0.0, 2.0),
    share=st.floats(0.0, 0.5),
    wanted=st.floats(0.05, 1.0),
    seed=st.integers(0, 999),
)
def test_there_are_as_many_as_asked_and_values_come_from_where_it_says(
    out, ins, density, threshold, share, wanted, seed
):
    matrix = matrix_of(out, ins, density, seed)
    if not len(matrix.values):
        return
    keep = max(1, round(wanted * out * ins))
    made = exchange(matrix, threshold, Pace(share, 1.1), keep, by_chance(seed))
    after, sources = made.evolved.matrix, made.evolved.sources
    assert len(after.values) == keep == len(matrix.values) - made.gone + made.come
    assert int((sources < 0).sum()) == made.come
    old = sources >= 0
    assert torch.equal(after.values[old], matrix.values[sources[old].long()])
    assert torch.equal(made.evolved.carry(matrix.values)[old], after.values[old])
    stays = matrix.values[sources[old].long()].abs()
    goes = torch.ones(len(matrix.values), dtype=torch.bool)
    goes[sources[old].long()] = False
    if bool(goes.any()) and len(stays):
        assert matrix.values[goes].abs().max() <= stays.min()


def test_the_threshold_steers_to_its_target_and_a_wild_one_is_tamed():
    torch.manual_seed(0)
    matrix = matrix_of(100, 100, 0.3, 0)
    count, threshold = len(matrix.values), 0.001
    shares = []
    for step in range(80):
        made = exchange(matrix, threshold, Pace(0.1, 1.1), count, by_chance(step))
        shares.append(made.gone / count)
        threshold = made.threshold
    assert shares[0] < 0.01
    assert shares[-1] == pytest.approx(0.1, abs=0.02)
    wild = exchange(matrix, 50.0, Pace(0.1, 1.1), count, by_chance(0))
    assert wild.gone <= 0.2 * count


def test_a_higher_sparsity_is_reached_at_once_by_the_smallest():
    matrix = matrix_of(30, 30, 0.5, 3)
    made = exchange(matrix, 0.01, Pace(0.05, 1.1), 100, by_chance(0))
    assert made.come == 0
    expected = matrix.values.abs().sort(descending=True).values[:100]
    assert torch.equal(made.evolved.matrix.values.abs().sort(descending=True).values, expected)


def test_lost_weights_go_whatever_their_size():
    matrix = matrix_of(12, 12, 0.5, 1)
    count = len(matrix.values)
    lost = matrix.values > 1.0
    assert 0 < int(lost.sum()) < count
    made = exchange(matrix, 1e-6, Pace(0.1, 1.1), count, by_chance(0), lost)
    assert made.gone == int(lost.sum())
    # They say nothing of the threshold: nothing went by it, so that it rises.
    assert made.threshold == pytest.approx(1.1e-6)


def test_zeros_do_not_make_the_threshold_take_what_is_left():
    matrix = matrix_of(30, 30, 0.5, 2)
    count = len(matrix.values)
    values = matrix.values.masked_fill(torch.arange(count) % 5 != 0, 0)
    alive = int((values != 0).sum())
    mostly_zero = CSR(matrix.shape, matrix.crow_indices, matrix.col_indices, values)
    made = exchange(mostly_zero, 50.0, Pace(0.2, 1.1), count, by_chance(0))
    assert made.gone - (count - alive) <= 0.4 * alive


def test_a_layer_of_zeros_alone_is_replaced_as_a_whole():
    matrix = matrix_of(12, 12, 0.5, 1)
    count = len(matrix.values)
    everything = torch.ones(count, dtype=torch.bool)
    made = exchange(matrix, 0.1, Pace(0.2, 1.1), count, by_chance(0), everything)
    assert made.gone == made.come == count == len(made.evolved.matrix.values)
    assert made.evolved.sources.eq(-1).all()
    assert made.evolved.carry(matrix.values).eq(0).all()


def test_dead_ends_are_found_in_the_structure_alone():
    dense = torch.tensor([[0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 3.0, 0.0, 0.0]])
    matrix = CSR.from_dense(dense)
    layer = evolving(nn.Linear(4, 3), matrix)
    assert layer.blind.tolist() == [False, True, False]
    assert layer.unread.tolist() == [False, False, True, True]
    flags = entries_of(
        matrix, torch.tensor([True, False, False]), torch.tensor([True, False, False, False])
    )
    assert matrix.values[flags].tolist() == [2.0, 1.0]
