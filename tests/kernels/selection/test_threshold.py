"""One cut through many layers, against a stable sort of all scores together."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.kernels.formats.bits import pack_bits
from secateur.kernels.selection.select import lowest_by_size
from secateur.kernels.selection.threshold import (
    STRETCH,
    Part,
    all_but_lowest,
    lowest_counts,
    lowest_of,
)

few_values = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 7.0, math.inf]), min_size=1)


def by_sort(scores: torch.Tensor, count: int) -> torch.Tensor:
    chosen = torch.zeros(scores.numel(), dtype=torch.bool)
    chosen[torch.argsort(scores.flatten(), stable=True)[:count]] = True
    return chosen


def within(scores: torch.Tensor, limit: int, weight: float = 1.0) -> Part:
    return Part(len(scores), scores.__getitem__, limit, weight)


@given(st.lists(few_values, min_size=1, max_size=4), st.data())
@settings(deadline=None)
def test_counts_are_those_of_a_stable_sort(values: list[list[float]], data: st.DataObject) -> None:
    layers = [torch.tensor(each) for each in values]
    total = sum(len(layer) for layer in layers)
    count = data.draw(st.integers(0, total))
    chosen = by_sort(torch.cat(layers), count).split([len(layer) for layer in layers])
    parts = [Part.of(layer) for layer in layers]
    assert lowest_counts(parts, count) == [int(part.sum()) for part in chosen]


@given(few_values, st.data())
@settings(deadline=None)
def test_masks_are_those_of_a_stable_sort(values: list[float], data: st.DataObject) -> None:
    scores = torch.tensor(values)
    count = data.draw(st.integers(0, len(scores)))
    chosen = by_sort(scores, count)
    assert torch.equal(lowest_of(Part.of(scores), count), chosen)
    assert torch.equal(all_but_lowest(Part.of(scores), count), pack_bits(~chosen))


@given(st.lists(few_values, min_size=1, max_size=4), st.data())
@settings(deadline=None)
def test_no_part_gives_more_than_its_limit(values: list[list[float]], data: st.DataObject) -> None:
    layers = [torch.tensor(each) for each in values]
    limits = [data.draw(st.integers(0, len(layer))) for layer in layers]
    count = data.draw(st.integers(0, sum(limits)))
    reach = [layer[by_sort(layer, limit)] for layer, limit in zip(layers, limits, strict=True)]
    chosen = by_sort(torch.cat(reach), count).split(limits)
    parts = [within(layer, limit) for layer, limit in zip(layers, limits, strict=True)]
    assert lowest_counts(parts, count) == [int(part.sum()) for part in chosen]


@given(st.lists(few_values, min_size=1, max_size=4), st.floats(0, 1), st.data())
@settings(deadline=None)
def test_weights_are_spent_nearest_to_the_budget(
    values: list[list[float]], share: float, data: st.DataObject
) -> None:
    layers = [torch.tensor(each) for each in values]
    weights = [data.draw(st.integers(1, 9)) for _ in layers]
    pairs = list(zip(layers, weights, strict=True))
    sizes = torch.cat([torch.full((len(layer),), weight) for layer, weight in pairs])
    budget = share * int(sizes.sum())
    chosen = lowest_by_size(torch.cat(layers), sizes, budget)
    parts = [within(layer, len(layer), weight) for layer, weight in pairs]
    expected = chosen.split([len(layer) for layer in layers])
    assert lowest_counts(parts, budget) == [int(part.sum()) for part in expected]


def kinds(count: int) -> dict[str, torch.Tensor]:
    """Scores long enough to be sampled, of shapes that a sample could go wrong on."""
    generator = torch.Generator().manual_seed(5)
    normal = torch.randn(count, generator=generator)
    return {
        "normal": normal,
        "sorted": normal.sort().values,
        "half zeros": normal.abs() * (torch.rand(count, generator=generator) < 0.5),
        "few values": (normal * 2).round(),
        "all equal": torch.ones(count),
        "periodic": (torch.arange(count) % 128).float(),
        "one outlier": torch.cat([torch.zeros(count - 1), torch.tensor([1.0])]),
    }


@pytest.mark.parametrize("kind", kinds(4))
def test_large_layers_are_cut_exactly(kind: str) -> None:
    scores = kinds(6 * STRETCH + 17)[kind]
    parts = [Part.of(part) for part in scores.split([3 * STRETCH, 100, 3 * STRETCH - 83])]
    for share in (1e-6, 0.3, 0.5, 0.8, 0.999999):
        count = round(share * len(scores))
        chosen = by_sort(scores, count)
        assert torch.equal(lowest_of(Part.of(scores), count), chosen)
        assert torch.equal(all_but_lowest(Part.of(scores), count), pack_bits(~chosen))
        expected = chosen.split([part.count for part in parts])
        assert lowest_counts(parts, count) == [int(part.sum()) for part in expected]


def test_scores_are_asked_for_in_small_stretches_only() -> None:
    asked = []
    scores = torch.rand(5 * STRETCH, generator=torch.Generator().manual_seed(6))

    def some(at: slice | torch.Tensor) -> torch.Tensor:
        found = scores[at]
        asked.append(len(found))
        return found

    part = Part(len(scores), some, len(scores))
    lowest_counts([part], 0.8 * len(scores))
    all_but_lowest(part, round(0.8 * len(scores)))
    assert max(asked) <= STRETCH


def test_there_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="cannot choose 4 of 3"):
        lowest_of(Part.of(torch.rand(3)), 4)
