"""The first topology: the same number of inputs for every output, one from each part of them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.kernels.growing.start import deviation, fresh


@st.composite
def sizes(draw):
    out, ins = draw(st.integers(1, 40)), draw(st.integers(1, 60))
    return (out, ins), draw(st.integers(out, out * ins))


def drawn(shape, count, seed=0):
    return fresh(shape, count, torch.Generator().manual_seed(seed))


@given(sizes())
def test_weights_are_as_many_as_asked_and_spread_to_one(case):
    shape, count = case
    matrix = drawn(shape, count)
    lengths = matrix.crow_indices.long().diff()
    assert len(matrix.values) == int(lengths.sum()) == count
    assert int(lengths.max()) - int(lengths.min()) <= 1
    type(matrix).from_parts(matrix.parts(), matrix.meta())  # ascending, inside, none twice


@given(sizes())
def test_each_part_of_the_inputs_has_one(case):
    (_, ins), _ = case
    matrix = drawn(*case)
    for row, width in enumerate(matrix.crow_indices.long().diff().tolist()):
        start = int(matrix.crow_indices[row])
        for part, column in enumerate(matrix.col_indices[start : start + width].tolist()):
            assert part * ins // width <= column < (part + 1) * ins // width


def test_every_input_of_a_part_is_as_likely_as_another():
    matrix = drawn((4000, 30), 4000 * 3)
    counts = torch.bincount(matrix.col_indices.long(), minlength=30)
    assert counts.min() > 400 * 0.8
    assert counts.max() < 400 * 1.2


def test_weights_have_the_deviation_of_the_paper_and_repeat_by_seed():
    shape, count = (300, 500), 15000
    assert deviation(shape, count) == pytest.approx(2 / math.sqrt(800 * 0.1))
    matrix = drawn(shape, count)
    assert float(matrix.values.std()) == pytest.approx(deviation(shape, count), rel=0.02)
    assert abs(float(matrix.values.mean())) < 0.01
    again, other = drawn(shape, count), drawn(shape, count, seed=1)
    assert torch.equal(matrix.values, again.values)
    assert torch.equal(matrix.col_indices, again.col_indices)
    assert not torch.equal(matrix.col_indices, other.col_indices)


@pytest.mark.parametrize("count", [3, 21])
def test_an_output_without_inputs_and_too_many_weights_are_refused(count):
    with pytest.raises(ValueError, match="do not give each of 4 outputs 1 to 5 inputs"):
        drawn((4, 5), count)
