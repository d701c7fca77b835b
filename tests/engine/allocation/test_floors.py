"""What allocations must leave: the floor of every layer, and one of the layers that go whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.engine.allocation import ALLOCATIONS, Share
from secateur.engine.allocation.whole import choose_layers
from secateur.engine.errors import BadInput
from secateur.engine.gemm import Gemm
from secateur.engine.patterns import PATTERNS


def scores_of(gemm: Gemm, scale: float, seed: int) -> torch.Tensor:
    return torch.rand(gemm.shape, generator=torch.Generator().manual_seed(seed)) * scale


def share(gemm: Gemm, word: str, asked: float, scores: torch.Tensor) -> Share:
    pattern = PATTERNS.parse(word)
    return Share(
        asked, gemm, lambda: pattern.pool(scores, gemm), pattern.sizes(gemm), gemm.stored_numel
    )


@pytest.mark.parametrize("kind", ["global", "erk", "lamp", "flops"])
@pytest.mark.parametrize("word", ["element", "filter", "block:3x5", "group"])
@given(floor=st.floats(0.05, 0.45), asked=st.floats(0.1, 0.5), seed=st.integers(0, 99))
def test_every_layer_keeps_its_floor_and_the_total_is_met(
    kind: str, word: str, floor: float, asked: float, seed: int
) -> None:
    # Scores of layers so far apart that without a floor the first would lose all but a unit.
    layers = {"low": (20, 30, 0.001), "middle": (11, 17, 1.0), "high": (40, 25, 100.0)}
    gemms = {path: Gemm((out, ins)) for path, (out, ins, _) in layers.items()}
    scores = {path: scores_of(gemms[path], layers[path][2], seed) for path in layers}
    shares = {path: share(gemms[path], word, asked, scores[path]) for path in layers}
    settings = {"kind": kind, "floor": floor}
    if kind == "flops":
        settings["target"] = 1 - asked
    chosen = ALLOCATIONS.parse(settings).allocate(shares)
    pattern = PATTERNS.parse(word)
    kept = {p: int(pattern.mask(scores[p], chosen[p], gemms[p]).sum()) for p in layers}
    for path, one in shares.items():
        assert kept[path] >= floor * one.size - 1e-6, path
    total = sum(one.size for one in shares.values())
    largest = max(
        one.size / one.units().numel() if one.sizes is None else int(one.sizes.max())
        for one in shares.values()
    )
    # ERK speaks in shares, LAMP ranks by totals: both are rounded again, layer by layer.
    slack = largest * (2 if kind in ("erk", "lamp") else 1) + 1
    assert abs(sum(kept.values()) - (1 - asked) * total) <= slack


@pytest.mark.parametrize("kind", ["global", "erk", "lamp"])
def test_a_floor_above_what_rules_leave_says_the_most_that_can_go(kind: str) -> None:
    shares = {"a": share(Gemm((20, 30)), "element", 0.8, torch.rand(20, 30))}
    with pytest.raises(BadInput, match=r"at most 60\.0%.*ask for 80\.0%"):
        ALLOCATIONS.parse({"kind": kind, "floor": 0.4}).allocate(shares)
    shares = {path: replace(one, flops=one.size) for path, one in shares.items()}
    with pytest.raises(BadInput, match=r"20\.0% of the .* floor of 0\.4; .* 40\.0%"):
        ALLOCATIONS.parse({"kind": "flops", "floor": 0.4, "target": 0.2}).allocate(shares)


def whole(score: float, size: int, asked: float) -> Share:
    return Share(asked, Gemm((1, size)), lambda: torch.tensor([score]))


def test_the_lowest_layers_go_until_the_share_is_nearest() -> None:
    def gone(asked: float, **more: bool) -> set[str]:
        layers = [("a", 3.0, 100), ("b", 1.0, 300), ("c", 2.0, 100), ("d", 4.0, 500)]
        shares = {path: whole(score, size, asked) for path, score, size in layers}
        return {path for path, flag in choose_layers(shares, **more).items() if flag == 1.0}

    assert gone(0.1) == set()
    assert gone(0.2) == {"b"}
    assert gone(0.36) == {"b", "c"}
    assert gone(0.5) == {"b", "c", "a"}
    assert gone(0.95) == {"b", "c", "a"}, "one stays"
    assert gone(0.95, all_may_go=True) == {"a", "b", "c", "d"}
    assert choose_layers({}) == {}


def test_of_equal_layers_the_last_one_stays() -> None:
    shares = {path: whole(1.0, 10, 0.99) for path in "abc"}
    assert choose_layers(shares) == {"a": 1.0, "b": 1.0, "c": 0.0}
