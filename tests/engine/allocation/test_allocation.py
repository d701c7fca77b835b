"""Allocations: the total is what was asked, the cut is one threshold, no layer is emptied."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.engine.allocation import ALLOCATIONS, Share
from secateur.engine.criteria.lamp import lamp_scores
from secateur.engine.errors import BadInput
from secateur.engine.gemm import Gemm


def share(units: torch.Tensor, asked: float, size: int = 1, flops: int | None = None) -> Share:
    return Share(asked, Gemm((len(units), size)), lambda: units, None, flops)


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


def layer(shape: tuple[int, ...], kernel: tuple[int, ...], asked: float) -> Share:
    gemm = Gemm(shape, kernel)
    units = torch.rand(gemm.shape, generator=torch.Generator().manual_seed(sum(shape)))
    return Share(asked, gemm, lambda: units)


def total_kept(shares: dict[str, Share], chosen: dict[str, float]) -> float:
    return sum((1 - chosen[path]) * share.size for path, share in shares.items())


@given(st.floats(0.05, 0.97))
def test_erk_spends_the_budget_and_keeps_small_layers_denser(asked: float) -> None:
    shares = {
        "small": layer((16, 1, 3, 3), (3, 3), asked),
        "middle": layer((64, 32, 3, 3), (3, 3), asked),
        "large": layer((512, 256), (), asked),
    }
    chosen = ALLOCATIONS.parse("erk").allocate(shares)
    kept = sum((1 - asked) * share.size for share in shares.values())
    assert total_kept(shares, chosen) == pytest.approx(kept)
    assert all(0 <= sparsity < 1 for sparsity in chosen.values())
    assert chosen["small"] <= min(chosen["middle"], chosen["large"])


def test_erk_follows_its_formula() -> None:
    shares = {"conv": layer((64, 32, 3, 3), (3, 3), 0.95), "fc": layer((512, 256), (), 0.95)}
    chosen = ALLOCATIONS.parse("erk").allocate(shares)
    raw = {"conv": (64 + 32 + 3 + 3) / (64 * 288), "fc": (512 + 256) / (512 * 256)}
    ratio = (1 - chosen["conv"]) / (1 - chosen["fc"])
    assert ratio == pytest.approx(raw["conv"] / raw["fc"])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_lamp_scores_are_their_definition(values: list[int]) -> None:
    scores = torch.tensor([float(v) for v in values])
    found = lamp_scores(scores)
    for value, score in zip(values, found, strict=True):
        total = sum(other for other in values if other >= value)
        assert float(score) == pytest.approx(value / total if total else 0.0)


def test_lamp_cuts_once_and_empties_no_layer() -> None:
    shares = {"a": layer((8, 8), (), 0.9), "b": layer((32, 32), (), 0.9)}
    chosen = ALLOCATIONS.parse("lamp").allocate(shares)
    assert total_kept(shares, chosen) == pytest.approx(0.1 * (64 + 1024), abs=0.5)
    assert max(chosen.values()) < 1
    assert chosen["a"] < chosen["b"], "a small layer's scores weigh more"


def test_flops_target_is_met_where_it_costs_least() -> None:
    shares = {
        "dear": share(torch.linspace(0.1, 1, 100), 0.5, flops=100_000),
        "cheap": share(torch.linspace(0.1, 1, 100), 0.5, flops=1_000),
    }
    chosen = ALLOCATIONS.parse({"kind": "flops", "target": 0.4}).allocate(shares)
    left = 100_000 * (1 - chosen["dear"]) + 1_000 * (1 - chosen["cheap"])
    assert left == pytest.approx(0.4 * 101_000, abs=1_000)
    assert chosen["dear"] > chosen["cheap"]
    with pytest.raises(BadInput, match="not known"):
        ALLOCATIONS.parse("flops").allocate({"a": share(torch.rand(4), 0.5)})
