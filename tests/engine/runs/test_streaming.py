"""Masks of single weights made a stretch at a time are those of the whole layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.engine.criteria import CRITERIA
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Rule
from secateur.engine.runs.streaming import entry_scores, mask_of
from secateur.kernels.selection.threshold import STRETCH


def rule(pattern: str, criterion: Any) -> Rule:
    return Rule("*", PATTERNS.parse(pattern), CRITERIA.parse(criterion), 0.5)


@given(
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    st.sampled_from([1, 2]),
    st.floats(0, 0.999),
    st.integers(0, 99),
)
@settings(deadline=None)
def test_masks_are_those_of_the_pattern(
    dtype: torch.dtype, norm: int, sparsity: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = 1 + seed % 7 if seed % 10 else 2 * STRETCH // 64 + 3
    weight = torch.randn(rows, 64, generator=generator).to(dtype)
    used = rule("element", {"kind": "magnitude", "norm": norm})
    scores = entry_scores(used, weight)
    assert scores is not None
    expected = used.pattern.mask(used.criterion.scores(weight), sparsity)
    found = mask_of(used, weight, scores, sparsity)
    assert torch.equal(found.unpack(), expected)
    assert found.kept == int(expected.sum())


@pytest.mark.parametrize("kind", PATTERNS.kinds())
def test_only_single_weights_are_streamed(kind: str) -> None:
    streamed = entry_scores(rule(kind, "magnitude"), torch.rand(8, 8)) is not None
    assert streamed == (kind == "element")


@pytest.mark.parametrize("kind", CRITERIA.kinds())
def test_only_scores_of_single_entries_are_streamed(kind: str) -> None:
    criterion = CRITERIA.parse(kind)
    streamed = entry_scores(rule("element", kind), torch.rand(8, 8)) is not None
    assert streamed == criterion.entrywise
    if streamed:
        weight = torch.randn(6, 9, generator=torch.Generator().manual_seed(1))
        some = torch.tensor([5, 0, 17])
        whole = criterion.scores(weight).flatten()
        assert torch.equal(criterion.scores(weight.flatten()[some]), whole[some])
