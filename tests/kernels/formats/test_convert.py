"""Every format becomes every other one, and the structure of a mask survives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.kernels.formats import (
    BSR,
    COO,
    CSC,
    CSR,
    DOK,
    ELL,
    FORMATS,
    NM,
    Bitmap,
    Dense,
    Entries,
    Grouped,
    Hybrid,
    Unfit,
    convert,
)
from secateur.kernels.formats.hybrid import best_width

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
SETTINGS: dict[str, dict[str, Any]] = {"nm": {"n": 4, "m": 4}, "bsr": {"block": (3, 2)}}
KEEP_ZEROS = [COO, CSR, CSC, DOK, ELL, Hybrid, Bitmap]


def scattered(
    out: int, ins: int, density: float, seed: int, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(out, ins, generator=generator)
    # Rows of very different length, some of them empty.
    share = torch.rand(out, 1, generator=generator) * 2 * density
    gone = torch.rand(out, ins, generator=generator) >= share
    return matrix.masked_fill(gone, 0.0).to(dtype)


@settings(deadline=None, max_examples=40)
@given(
    out=st.integers(0, 12), ins=st.integers(0, 20), density=st.floats(0, 1),
    seed=st.integers(0, 2**31), dtype=st.sampled_from(DTYPES),
)  # fmt: skip
def test_any_format_becomes_any_other(out, ins, density, seed, dtype) -> None:
    matrix = scattered(out, ins, density, seed, dtype)
    for kind, cls in FORMATS.items():
        first = convert(Dense.from_dense(matrix), cls, **SETTINGS.get(kind, {}))
        assert type(first) is cls
        for other, target in FORMATS.items():
            second = convert(first, target, **SETTINGS.get(other, {}))
            assert type(second) is target
            assert second.to_dense().dtype == dtype
            assert torch.equal(second.to_dense(), matrix)
            # What a conversion gives is what a file may hold.
            assert torch.equal(target.from_parts(second.parts(), second.meta()).to_dense(), matrix)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(13, 37), (5, 0), (0, 7)])
def test_conversions_stay_where_the_matrix_is(backend, dtype, shape) -> None:
    matrix = scattered(*shape, 0.3, seed=3, dtype=dtype)
    given = matrix.t().contiguous().to(backend.device).t()  # not contiguous
    with backend.active():
        for kind, cls in FORMATS.items():
            first = convert(Dense.from_dense(given), cls, **SETTINGS.get(kind, {}))
            for other, target in FORMATS.items():
                second = convert(first, target, **SETTINGS.get(other, {}))
                places = {part.device.type for part in second.parts().values()}
                assert places <= {backend.device.type}, (kind, other)
                assert torch.equal(second.to_dense().cpu(), matrix), (kind, other)


@settings(deadline=None, max_examples=40)
@given(out=st.integers(1, 12), ins=st.integers(1, 20), seed=st.integers(0, 2**31))
def test_from_a_conversion_and_from_the_matrix_is_the_same(out, ins, seed) -> None:
    matrix = scattered(out, ins, 0.3, seed)
    for kind, cls in FORMATS.items():
        build: Any = cls.from_dense
        direct = build(matrix, **SETTINGS.get(kind, {})).parts()
        there = convert(COO.from_dense(matrix), cls, **SETTINGS.get(kind, {})).parts()
        assert direct.keys() == there.keys()
        assert all(direct[name].dtype == there[name].dtype for name in direct)
        assert all(torch.equal(direct[name], there[name]) for name in direct)


def test_nothing_is_done_where_nothing_is_to_do() -> None:
    csr = CSR.from_dense(torch.eye(3))
    assert convert(csr, CSR) is csr
    bsr = BSR.from_dense(torch.eye(4), (2, 2))
    assert convert(bsr, BSR) is bsr
    assert convert(bsr, BSR, block=(1, 4)).block == (1, 4)
    with pytest.raises(Unfit):
        convert(CSR.from_dense(torch.ones(3, 4)), NM)


@pytest.mark.parametrize("cls", KEEP_ZEROS)
def test_a_stored_zero_is_an_entry_where_the_format_can_say_so(cls) -> None:
    mask = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]]).bool()
    weight = torch.arange(16.0).view(4, 4)  # entry (0, 0) is kept and zero
    stored = cls.from_mask(weight, mask)
    assert torch.equal(stored.to_dense(), weight * mask)
    for other in KEEP_ZEROS:
        entries = convert(stored, other).entries()
        assert torch.equal(entries.mask(), mask)
        assert torch.equal(entries.values, weight[mask])
    again = cls.from_parts(stored.parts(), stored.meta())
    assert torch.equal(again.entries().mask(), mask)


def test_a_mask_decides_what_is_kept_whole() -> None:
    mask = torch.zeros(4, 8, dtype=torch.bool)
    mask[1, 2] = mask[3, 7] = True
    weight = torch.zeros(4, 8)
    grouped = Grouped.from_mask(weight, mask)
    assert grouped.rows is not None
    assert grouped.columns is not None
    assert (grouped.rows.tolist(), grouped.columns.tolist()) == ([1, 3], [2, 7])
    assert BSR.from_mask(weight, mask, block=(2, 4)).col_indices.tolist() == [0, 1]
    nm = NM.from_mask(weight, mask, n=1, m=4)
    assert nm.places.tolist() == [[0, 0], [2, 0], [0, 0], [0, 3]]
    with pytest.raises(ValueError, match="does not fit"):
        CSR.from_mask(weight, mask[:3])
    with pytest.raises(Unfit):
        ELL.from_mask(weight, mask, width=0)


@settings(deadline=None, max_examples=60)
@given(
    out=st.integers(1, 300), ins=st.integers(1, 300), density=st.floats(0, 1),
    seed=st.integers(0, 2**31), dtype=st.sampled_from(DTYPES),
)  # fmt: skip
def test_the_width_of_a_hybrid_is_the_best(out, ins, density, seed, dtype) -> None:
    entries = Entries.of(scattered(out, ins, density, seed, dtype))
    longest = int(entries.row_starts.diff().max())
    tried = sorted({0, longest, *range(0, longest, 1 + longest // 12), best_width(entries)})
    sizes = {width: Hybrid.from_entries(entries, width).nbytes for width in tried}
    best = sizes[best_width(entries)]
    assert best == min(sizes.values())
    assert min(width for width in tried if sizes[width] == best) == best_width(entries)
    assert Hybrid.from_entries(entries).nbytes == best


def test_a_hybrid_takes_less_than_its_parts_alone_where_few_rows_are_long() -> None:
    matrix = torch.zeros(64, 512)
    matrix[:, :6] = 1
    matrix[5] = 2
    stored = Hybrid.from_dense(matrix)
    assert stored.ell.width == 6
    assert stored.ell.counts is None
    assert stored.rest.rows.unique().tolist() == [5]
    assert stored.nbytes < min(ELL.from_dense(matrix).nbytes, COO.from_dense(matrix).nbytes)


def test_ell_fills_rows_up_at_their_end_with_column_zero() -> None:
    matrix = torch.tensor([[0.0, 3, 0, 4], [0, 0, 0, 0], [5, 0, 0, 0]])
    stored = ELL.from_dense(matrix)
    assert stored.counts is not None
    assert stored.counts.tolist() == [2, 0, 1]
    assert stored.columns.tolist() == [[1, 3], [0, 0], [0, 0]]
    assert stored.values.tolist() == [[3, 4], [0, 0], [5, 0]]
    assert stored.kept().tolist() == [[True, True], [False, False], [True, False]]
    gathered = (stored.values * torch.arange(4.0)[stored.columns32.long()]).sum(dim=1)
    assert torch.equal(gathered, matrix @ torch.arange(4.0))


@pytest.mark.parametrize("block", [(0, 2), (2, -1)])
def test_a_block_that_holds_nothing_is_refused(block) -> None:
    for build in (BSR.from_dense, BSR.from_mask):
        args = (torch.ones(4, 4),) if build == BSR.from_dense else (torch.ones(4, 4),) * 2
        with pytest.raises(ValueError, match="holds nothing"):
            build(*args, block=block)
