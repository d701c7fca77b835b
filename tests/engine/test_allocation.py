"""Allocations: the total is what was asked, the cut is one threshold, no layer is emptied."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.engine.allocation import ALLOCATIONS, Share


def share(units: torch.Tensor, asked: float, size: int = 1) -> Share:
    return Share(asked, len(units) * size, lambda: units, None)


@given(st.lists(st.integers(2, 40), min_size=1, max_size=5), st.floats(0, 0.95), st.integers(0, 99))
def test_global_spends_the_budget_below_one_threshold(
    counts: list[int], asked: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    layers = {str(i): torch.rand(n, generator=generator) for i, n in enumerate(counts)}
    shares = {path: share(units, asked) for path, units in layers.items()}
    chosen = ALLOCATIONS.parse("global").allocate(shares)
    removed = {path: round(chosen[path] * len(units)) for path, units in layers.items()}
    most = sum(counts) - len(counts)
    assert sum(removed.values()) == min(round(asked * sum(counts)), most)
    assert all(removed[path] < len(units) for path, units in layers.items())
    ranked = {path: units.sort().values for path, units in layers.items()}
    # No layer loses a score above one that another could still give.
    worst = max((float(ranked[p][n - 1]) for p, n in removed.items() if n), default=0.0)
    spare = [float(ranked[p][n]) for p, n in removed.items() if n < len(ranked[p]) - 1]
    assert all(worst <= score for score in spare)


def test_global_weighs_units_by_their_size() -> None:
    shares = {
        "filters": share(torch.tensor([0.1, 0.9, 0.8]), 0.25, size=10),
        "weights": share(torch.linspace(0.2, 1.0, 10), 0.25),
    }
    chosen = ALLOCATIONS.parse("global").allocate(shares)
    assert chosen["filters"] == 10 / 30
    assert chosen["weights"] == 0.0


def test_uniform_gives_each_what_it_asked() -> None:
    shares = {"a": share(torch.rand(4), 0.25), "b": share(torch.rand(8), 0.5)}
    assert ALLOCATIONS.parse("uniform").allocate(shares) == {"a": 0.25, "b": 0.5}


def test_ties_in_a_layer_leave_one_unit() -> None:
    shares = {"flat": share(torch.ones(6), 0.9), "rest": share(torch.full((6,), 2.0), 0.9)}
    chosen = ALLOCATIONS.parse("global").allocate(shares)
    assert chosen == {"flat": 5 / 6, "rest": 5 / 6}
