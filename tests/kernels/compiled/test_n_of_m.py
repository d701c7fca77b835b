from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.kernels import reference
from secateur.kernels.compiled.n_of_m import keep_n_of_m
from secateur.kernels.selection import select


@given(
    m=st.integers(2, 64),
    share=st.floats(0, 1),
    step=st.sampled_from([1, 1, 2, 9, 16, 70]),
    rows=st.integers(0, 5),
    columns=st.integers(1, 700),
    kinds=st.sampled_from([1, 3, 50, 1 << 20]),
    seed=st.integers(0, 99),
)
def test_any_runs_in_any_rows_with_any_ties(m, share, step, rows, columns, kinds, seed):
    n = round(share * m)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(kinds, (rows, columns), generator=generator).float()
    kept = keep_n_of_m(scores, n, m, step)
    assert torch.equal(kept, reference.keep_n_of_m(scores, n, m, step))


@pytest.mark.parametrize("m", [2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("columns", [4096, 4095])
def test_many_rows_are_shared_out_among_threads(m, columns):
    scores = torch.rand(257, columns, generator=torch.Generator().manual_seed(m))
    assert torch.equal(keep_n_of_m(scores, m // 2, m), reference.keep_n_of_m(scores, m // 2, m))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_scores_of_any_dtype_and_layout(dtype):
    scores = torch.randint(20, (96, 130)).to(dtype)
    for given_ in (scores, scores.t(), scores[:, ::3], -scores):
        assert torch.equal(keep_n_of_m(given_, 2, 4), reference.keep_n_of_m(given_, 2, 4))


@pytest.mark.parametrize("step", [1, 9])
@pytest.mark.parametrize("rows", [1, 40])  # too few entries to load loops for, and enough
def test_without_the_compiler_the_masks_are_the_same(step, rows, monkeypatch):
    scores = torch.randint(9, (rows, 333)).float()
    compiled = keep_n_of_m(scores, 3, 8, step)
    assert torch.equal(select.keep_n_of_m(scores, 3, 8, step), compiled)
    monkeypatch.setattr(select, "ready", lambda: False)
    assert torch.equal(select.keep_n_of_m(scores, 3, 8, step), compiled)
