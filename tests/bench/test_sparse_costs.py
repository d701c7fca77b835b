"""The bytes that sparse training takes, which do not hang on the machine."""

import copy

import pytest
from torch import nn

from secateur.tests.bench.sparse_costs import _crossing, held, memory, sparse
from secateur.tests.bench.sparse_training import _kept


@pytest.mark.parametrize("optimizer", ["SGD", "momentum", "Adam"])
def test_at_95_percent_a_layer_takes_at_most_a_quarter_to_learn(optimizer):
    dense = nn.Sequential(nn.Linear(512, 512))
    whole = held(copy.deepcopy(dense), optimizer)
    assert whole["indices"] == whole["transposed"] == 0
    moments = {"SGD": 0, "momentum": 1, "Adam": 2}[optimizer]
    weights = whole["weights"]
    assert whole["optimizer"] == pytest.approx(moments * weights, abs=16)
    assert sum(held(sparse(dense, 0.95), optimizer).values()) <= 0.25 * sum(whole.values())


def test_the_56_times_of_the_paper_are_counted_without_the_transpose():
    (row,) = [line for line in memory() if line.startswith("| 99% | SGD |")]
    assert "55.9x smaller" in row


def test_a_crossover_lies_between_what_was_measured_around_it():
    assert _crossing([(0.3, -1.0), (0.5, 1.0)]) == "from 40% on"
    assert _crossing([(0.3, 0.1)]).startswith("faster at 30% already")
    assert _crossing([(0.3, -1.0), (0.9, -0.1)]).startswith("not up to 90%")


def test_a_part_that_is_not_measured_again_is_kept_as_it_stands():
    text = "# Results\n\n## One\n\n| a |\n\n## One more\n\n| b |\n"
    assert _kept(text, "One") == "## One\n\n| a |\n"
    assert _kept(text, "One more") == "## One more\n\n| b |\n"
    assert _kept(text, "Another") == ""
