from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.engine import text
from secateur.engine.verdicts import (
    best_speedup,
    crossover,
    dense_level,
    over_sparsities,
    verdict,
    with_crossovers,
)


def cell(
    sparsity: float,
    gain: float | None,
    pattern: str = "group",
    busy: bool = False,
    disturbed: bool = False,
) -> dict[str, Any]:
    """A cell whose best sparse form is `gain` times as fast as dense; None: there is no form."""
    runs = gain is not None and gain > 1.02
    other = [] if gain is None or runs else [{"path": "sparse", "ms": 2 / gain}]
    values = {
        "layer": "fc",
        "pattern": pattern,
        "kept": 1 - sparsity,
        "batch": 1,
        "dtype": "float32",
        "device": "cpu",
        "ran": "sparse" if runs else "dense",
        "dense_ms": 2.0,
        "ms": 2 / gain if runs else 2.0,
        "speedup": gain if runs else 1.0,
        "tried": other,
        "disturbed": disturbed,
    }
    return {**values, "verdict": verdict(values, busy)}


@pytest.mark.parametrize(
    ("made", "kind", "words"),
    [
        (cell(0.6, 1.6), "faster", "group at 60 % runs 1.6x faster than dense here"),
        (cell(0.6, 1.08), "faster", "group at 60 % runs 1.08x faster than dense here"),
        (
            cell(0.6, 1.6, disturbed=True),
            "faster",
            "group at 60 % runs faster than dense here; this machine was too busy to say how much",
        ),
        (cell(0.6, 1.03), "same", "group at 60 % runs as fast as dense here"),
        (
            cell(0.9, 0.4, "element"),
            "slower",
            "element-wise at 90 % stays slower than dense on this machine: shown as dense",
        ),
        (cell(0.5, 0.98), "same", "group at 50 % runs no faster than dense here: shown as dense"),
        (
            cell(0.5, None, "nm:2:4"),
            "same",
            "2:4 at 50 % has no form that could be faster here: shown as dense",
        ),
        (
            cell(0.5, 3.0, "block:8x8", busy=True),
            "busy",
            "no verdict on block 8x8 at 50 %: this machine was busy, measure again",
        ),
    ],
)
def test_what_a_cell_means(made, kind, words):
    assert made["verdict"] == {"kind": kind, "words": words}


def test_the_best_form_counts_even_where_dense_ran():
    assert best_speedup(cell(0.5, 0.5)) == pytest.approx(0.5)
    assert best_speedup(cell(0.5, 3)) == 3
    assert best_speedup(cell(0.5, None)) is None


def test_the_crossover_lies_where_the_line_crosses_dense():
    assert crossover([cell(0.5, 0.8), cell(0.75, 1.2), cell(0.9, 3)]) == pytest.approx(0.65)
    # In whatever order they come, and from where on all higher ones are faster.
    assert crossover([cell(0.9, 3), cell(0.3, 1.5), cell(0.5, 0.8), cell(0.75, 1.2)]) == (
        pytest.approx(0.65)
    )


@given(
    dense=st.lists(st.floats(1.8, 2.2), min_size=2, max_size=2),
    slow=st.floats(1.1, 4),
    fast=st.floats(0.1, 0.9),
    level=st.floats(1.8, 2.2),
)
def test_the_crossover_is_where_the_drawn_line_meets_the_drawn_level(dense, slow, fast, level):
    low = cell(0.5, 1 / slow)
    low |= {"dense_ms": dense[0], "tried": [{"path": "sparse", "ms": dense[0] * slow}]}
    high = cell(0.9, 1 / fast)
    high |= {"dense_ms": dense[1], "ms": dense[1] * fast}
    found = crossover([low, high], level)
    assert 0.5 <= found <= 0.9
    xs, ms = (0.5, 0.9), (dense[0] * slow, dense[1] * fast)
    if ms[1] < level < ms[0]:
        assert np.interp(found, xs, ms) == pytest.approx(level)
    else:  # the line lies on one side of the level all along
        assert found == (0.9 if ms[1] >= level else 0.5)


def test_dense_is_one_time_that_busy_cells_do_not_set():
    cells = [cell(0.5, 0.8), cell(0.75, 1.2), cell(0.9, 3)]
    for made, ms in zip(cells, (2.0, 2.2, 9.0), strict=True):
        made["dense_ms"] = ms
    assert dense_level(cells) == 2.2
    assert dense_level([*cells[:2], cells[2] | {"disturbed": True}]) == 2.2
    assert dense_level([cells[0], cells[2] | {"disturbed": True}]) == 2.0
    assert dense_level([cells[2] | {"disturbed": True}]) == 9.0


def test_no_crossover_is_made_up():
    assert crossover([cell(0.5, 0.3), cell(0.9, 0.9)]) is None
    assert crossover([]) is None
    # All are faster, or no form could run below: known from the lowest that was measured.
    assert crossover([cell(0.5, 1.5), cell(0.9, 3)]) == pytest.approx(0.5)
    assert crossover([cell(0.5, None), cell(0.9, 3)]) == pytest.approx(0.9)
    assert crossover([cell(0.5, 0.8), cell(0.75, 1.2, disturbed=True)]) == pytest.approx(0.75)
    # What noise left open says nothing.
    assert crossover([cell(0.5, 0.8), cell(0.75, 1.2, busy=True), cell(0.9, 1.2)]) == (
        pytest.approx(0.74)
    )


def test_crossovers_are_of_one_layer_pattern_and_setting():
    cells = [cell(0.5, 0.8), cell(0.75, 1.2), cell(0.5, 2, "filter"), cell(0.75, 3, "filter")]
    alone = cell(0.5, 2, "row")
    marked = with_crossovers([*cells, alone])
    expected = [0.65, 0.65, 0.5, 0.5]
    assert [each["crossover"] for each in marked[:-1]] == pytest.approx(expected)
    assert marked[-1]["crossover"] is None
    assert "crossover" not in cells[0]


def test_the_studio_can_use_it_without_torch():
    code = "import sys, secateur.engine.verdicts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_crossovers_have_a_column_only_where_there_can_be_one() -> None:
    one = [cell(0.5, 2), {**cell(0.75, 2), "layer": "conv"}, cell(0.9, 2, pattern="filter")]
    assert not over_sparsities([])
    assert not over_sparsities(one)
    assert over_sparsities([*one, cell(0.6, 2)])
    for cells, shown in ((one, False), ([*one, cell(0.6, 2)], True)):
        rows = [{**each, "spread": 0.0, "roofline": None, "cached": False, "steps": []}
                for each in with_crossovers(cells)]  # fmt: skip
        assert ("pays from" in text.measure({"cells": rows, "failed": []})) == shown
