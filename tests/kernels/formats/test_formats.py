"""Every storage format gives back exactly what it was given."""

import json
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from secateur.kernels.formats import (
    CSR,
    FORMATS,
    NM,
    Bitmap,
    Dense,
    Grouped,
    SparseMatrix,
    Unfit,
    fullest,
    smallest,
)
from secateur.kernels.formats.bits import (
    bits_for,
    narrow,
    pack_bits,
    pack_integers,
    unpack_bits,
    unpack_integers,
)
from secateur.kernels.selection.select import keep_n_of_m

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
ANY_MATRIX = [Dense.from_dense, Bitmap.from_dense, CSR.from_dense, Grouped.from_dense]


def bits_of(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.contiguous().view(INTEGERS[matrix.dtype.itemsize])


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits_of(a), bits_of(b))


def reread(stored: SparseMatrix) -> SparseMatrix:
    """Through a safetensors file's bytes and JSON, as an export keeps it."""
    parts = load(save(stored.parts()))
    return FORMATS[stored.kind].from_parts(parts, json.loads(json.dumps(stored.meta())))


@st.composite
def matrices(draw: st.DrawFn) -> torch.Tensor:
    out, ins = draw(st.integers(1, 40)), draw(st.integers(1, 70))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    matrix = torch.randn(out, ins, generator=generator).to(draw(st.sampled_from(DTYPES)))
    layout = draw(st.sampled_from(["scattered", "rows", "columns", "both", "zero", "full"]))
    share = draw(st.floats(0, 1))
    shape = {
        "scattered": (out, ins), "rows": (out, 1), "columns": (1, ins), "both": (out, 1),
        "zero": (1, 1), "full": (1, 1),
    }[layout]  # fmt: skip
    gone = torch.rand(shape, generator=generator) < {"zero": 1.1, "full": -1.0}.get(layout, share)
    if layout == "both":
        gone = gone | (torch.rand((1, ins), generator=generator) < share)
    return matrix.masked_fill(gone.expand(out, ins), 0.0)


@settings(deadline=None, max_examples=80)
@given(matrices())
def test_every_format_is_exact(matrix):
    for build in ANY_MATRIX:
        stored = build(matrix)
        assert same_bits(stored.to_dense(), matrix)
        again = reread(stored)
        assert same_bits(again.to_dense(), matrix)
        assert again.nbytes == stored.nbytes == sum(p.nbytes for p in stored.parts().values())


@settings(deadline=None, max_examples=60)
@given(matrices(), st.integers(1, 8), st.integers(1, 9))
def test_nm_is_exact_on_what_obeys_it_and_refuses_the_rest(matrix, n, m):
    n = min(n, m)
    most = fullest(matrix, m)
    if most > n:
        with pytest.raises(Unfit, match=f"not {n}:{m}"):
            NM.from_dense(matrix, n, m)
    matrix = matrix.masked_fill(~keep_n_of_m(matrix.abs(), n, m), 0.0)
    stored = reread(NM.from_dense(matrix, n, m))
    assert same_bits(stored.to_dense(), matrix)
    assert stored.values.shape == (matrix.shape[0], -(-matrix.shape[1] // m) * n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("build", [*ANY_MATRIX, NM.from_dense])
def test_extreme_values_come_back_and_a_zero_loses_its_sign(dtype, build):
    info = torch.finfo(dtype)
    matrix = torch.tensor(
        [[info.max, 0.0, 0.0, info.min], [0.0, -0.0, info.smallest_normal / 2, torch.inf]],
        dtype=dtype,
    )
    back = reread(build(matrix)).to_dense()
    plus = torch.where(matrix == 0, torch.zeros_like(matrix), matrix)
    assert same_bits(back, matrix if build == Dense.from_dense else plus)


def test_a_view_that_is_not_contiguous_is_stored_as_it_reads():
    matrix = torch.randn(9, 7)[::2].t()
    for build in (*ANY_MATRIX, partial(NM.from_dense, n=5, m=5)):
        assert torch.equal(reread(build(matrix)).to_dense(), matrix)


def test_sizes_are_what_the_layouts_promise():
    weight = torch.randn(64, 256)
    half = weight.masked_fill(~keep_n_of_m(weight.abs(), 2, 4), 0.0)
    cells = 64 * 256
    assert NM.from_dense(half, 2, 4).nbytes == cells // 2 * 4 + cells // 2 * 2 // 8
    assert Bitmap.from_dense(half).nbytes == cells // 2 * 4 + cells // 8
    columns = weight.clone()
    columns[:, 10:] = 0
    assert Grouped.from_dense(columns).nbytes == 64 * 10 * 4 + 10
    single = torch.zeros(64, 256)
    single[3, 5] = 1
    assert CSR.from_dense(single).nbytes == 65 + 1 + 4


@pytest.mark.parametrize(
    ("ins", "dtype"), [(256, torch.uint8), (257, torch.uint16), (65537, torch.int32)]
)
def test_indices_are_as_narrow_as_the_shape_allows(ins, dtype):
    matrix = torch.zeros(2, ins)
    matrix[1, -1] = 1
    assert CSR.from_dense(matrix).col_indices.dtype == dtype
    assert Grouped.from_dense(matrix).columns.dtype == dtype
    assert torch.equal(CSR.from_dense(matrix).to_dense(), matrix)


def test_smallest_chooses_by_bytes_and_the_first_of_equals():
    weight = torch.randn(64, 256)
    all_of_them = (NM.from_dense, *ANY_MATRIX)
    assert smallest(weight, all_of_them).kind == "dense"
    gone = weight.masked_fill(torch.rand(weight.shape) < 0.5, 0.0)
    assert smallest(gone, all_of_them).kind == "bitmap"
    rare = weight.masked_fill(torch.rand(weight.shape) < 0.98, 0.0)
    assert smallest(rare, all_of_them).kind == "csr"
    half = weight.masked_fill(~keep_n_of_m(weight.abs(), 2, 4), 0.0)
    assert smallest(half, all_of_them).kind == "nm"
    rows = weight.clone()
    rows[::2] = 0
    assert smallest(rows, all_of_them).kind == "grouped"
    with pytest.raises(Unfit):
        smallest(weight, [NM.from_dense])


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(2, 64), st.integers(0, 2**31))
def test_packed_integers_come_back(count, limit, seed):
    values = torch.randint(limit, (count,), generator=torch.Generator().manual_seed(seed))
    packed = pack_integers(values, bits_for(limit))
    assert packed.numel() == -(-count * bits_for(limit) // 8)
    assert torch.equal(unpack_integers(packed, bits_for(limit), count), values)


def test_packed_bits_are_lowest_first():
    flags = torch.tensor([True, False, False, True, False, False, False, False, True])
    assert pack_bits(flags).tolist() == [9, 1]
    assert torch.equal(unpack_bits(pack_bits(flags), 9), flags)
    assert narrow(torch.tensor([2**31]), 2**31).dtype == torch.int64


def damaged():
    matrix = torch.zeros(4, 8)
    matrix[1, 2], matrix[3, 7] = 1.0, -2.0
    csr, bitmap, nm, grouped, dense = (
        f.from_dense(matrix) for f in (CSR, Bitmap, NM, Grouped, Dense)
    )
    u8 = partial(torch.tensor, dtype=torch.uint8)
    yield csr, {"col_indices": u8([2, 8])}
    yield csr, {"crow_indices": u8([0, 0, 1, 1, 3])}
    yield csr, {"crow_indices": u8([0, 2, 1, 1, 2])}
    yield csr, {"crow_indices": u8([0, 2])}
    yield bitmap, {"bits": u8([255, 0, 0, 0])}
    yield bitmap, {"bits": u8([1])}
    yield nm, {"indices": u8([0])}
    yield nm, {"values": torch.zeros(3)}
    yield grouped, {"rows": u8([1, 4])}
    yield grouped, {"columns": u8([1, 4, 5])}
    yield dense, {"values": torch.zeros(2, 2)}


@pytest.mark.parametrize(("stored", "change"), list(damaged()))
def test_damaged_parts_are_refused(stored, change):
    with pytest.raises(ValueError, match=r"\w"):
        type(stored).from_parts({**stored.parts(), **change}, stored.meta())


@pytest.mark.parametrize("shape", [[4], [-4, 8], ["4", 8], [4, 8, 1], 5])
def test_a_meta_without_a_shape_is_refused(shape):
    for kind in ("dense", "bitmap", "csr", "grouped"):
        stored = FORMATS[kind].from_dense(torch.ones(4, 8))
        with pytest.raises((ValueError, TypeError)):
            type(stored).from_parts(stored.parts(), {"shape": shape})


def test_nm_meta_is_checked():
    stored = NM.from_dense(torch.zeros(4, 8))
    for n, m in ((3, 2), (0, 4), ("2", 4), (2, 3)):
        with pytest.raises(ValueError, match=r"N:M|shape|below"):
            NM.from_parts(stored.parts(), {"shape": [4, 8], "n": n, "m": m})
    with pytest.raises(ValueError, match="no N:M"):
        NM.from_dense(torch.zeros(4, 8), 5, 4)
