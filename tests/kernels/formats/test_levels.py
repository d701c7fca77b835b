"""The level index: what it stores comes back, in as few bits as promised, or is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.kernels.formats import LevelIndex
from secateur.kernels.formats.bits import bits_for


@given(
    seed=st.integers(0, 1000),
    shape=st.one_of(st.tuples(st.integers(0, 9), st.integers(0, 9)), st.tuples(st.integers(0, 30))),
    levels=st.integers(1, 64),
    density=st.floats(0, 1),
)
def test_ranks_come_back_where_entries_are_kept(seed, shape, levels, density) -> None:
    generator = torch.Generator().manual_seed(seed)
    ranks = torch.randint(0, levels, shape, generator=generator).to(torch.uint8)
    kept = torch.rand(shape, generator=generator) < density
    index = LevelIndex.of(ranks, kept, levels)
    again = LevelIndex.from_part(index.packed, index.meta()).ranks(kept)
    assert again.dtype == torch.uint8
    assert torch.equal(again, ranks.masked_fill(~kept, 0))
    assert index.nbytes <= -(-int(kept.sum()) * bits_for(levels) // 8)


@pytest.mark.parametrize(("dim", "along"), [(1, "row"), (0, "column")])
def test_lines_of_one_rank_take_one_entry_each(dim: int, along: str) -> None:
    ranks = torch.tensor([0, 2, 1, 2, 0, 1, 1, 2], dtype=torch.uint8).unsqueeze(dim).expand(8, 8)
    kept = torch.rand(8, 8) < 0.8
    kept[3] = False
    kept[:, 5] = False
    index = LevelIndex.of(ranks, kept, 3)
    assert index.along == along
    assert index.nbytes == 2
    assert torch.equal(index.ranks(kept), ranks.masked_fill(~kept, 0))


def test_bits_are_as_few_as_the_levels_take() -> None:
    kept = torch.ones(4, 64, dtype=torch.bool)
    for levels, size in ((2, 32), (3, 64), (4, 64), (5, 96), (16, 128), (17, 160)):
        ranks = (torch.rand(4, 64) * levels).to(torch.uint8)
        assert LevelIndex.of(ranks, kept, levels).nbytes == size


def test_what_is_no_index_is_refused() -> None:
    kept = torch.ones(2, 8, dtype=torch.bool)
    index = LevelIndex.of(torch.arange(16).view(2, 8) % 3, kept, 3)
    with pytest.raises(ValueError, match="do not take"):
        LevelIndex.from_part(index.packed[:-1], index.meta()).ranks(kept)
    full = torch.full_like(index.packed, 255)
    with pytest.raises(ValueError, match="below 3"):
        LevelIndex.from_part(full, index.meta()).ranks(kept)
    for broken in ({"levels": 0}, {"levels": "3"}, {"along": "depth"}):
        with pytest.raises(ValueError, match="not a level index"):
            LevelIndex.from_part(index.packed, {**index.meta(), **broken})
