"""Every storage format gives back exactly what it was given."""

import json
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

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
    Grouped,
    Hybrid,
    SparseMatrix,
    Unfit,
    fullest,
    smallest,
)
from secateur.kernels.formats.bits import (
    _pack_on_device,
    _unpack_on_device,
    bits_for,
    narrow,
    pack_bits,
    pack_integers,
    stable_order,
    to_int32,
    unpack_bits,
    unpack_integers,
)
from secateur.kernels.selection.select import keep_n_of_m

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
ANY_MATRIX = [
    Dense.from_dense, Bitmap.from_dense, COO.from_dense, CSR.from_dense, CSC.from_dense,
    BSR.from_dense, partial(BSR.from_dense, block=(3, 5)), partial(BSR.from_dense, block=(1, 1)),
    DOK.from_dense, ELL.from_dense, Hybrid.from_dense, Grouped.from_dense,
]  # fmt: skip
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


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
    out, ins = draw(st.integers(0, 40)), draw(st.integers(0, 70))
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
    if matrix.numel():
        matrix = matrix.masked_fill(~keep_n_of_m(matrix.abs(), n, m), 0.0)
    stored = reread(NM.from_dense(matrix, n, m))
    assert same_bits(stored.to_dense(), matrix)
    assert stored.values.shape == (matrix.shape[0], -(-matrix.shape[1] // m) * n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("build", [*ANY_MATRIX, NM.from_dense])
def test_extreme_values_come_back_and_a_zero_loses_its_sign(dtype, build):
    info = torch.finfo(dtype)
    matrix = torch.tensor(
        [
            [info.max, 0.0, 0.0, info.min],
            [0.0, -0.0, info.smallest_normal / 2, torch.inf],
            [-0.0, info.eps, torch.nan, -0.0],
        ],
        dtype=dtype,
    )
    back = reread(build(matrix)).to_dense()
    plus = torch.where(matrix == 0, torch.zeros_like(matrix), matrix)
    assert same_bits(back, matrix if build == Dense.from_dense else plus)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(1, 30), st.integers(0, 2**31), st.sampled_from(DTYPES))
def test_any_bits_come_back_those_of_nan_too(out, ins, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    size = (out, ins * dtype.itemsize)
    matrix = torch.randint(256, size, generator=generator, dtype=torch.uint8).view(dtype)
    # Half of them NaN or infinite: all bits of the exponent set.
    special = bits_of(torch.tensor(torch.inf, dtype=dtype).expand(1))
    bits = torch.where(torch.rand(out, ins, generator=generator) < 0.5, special, 0)
    matrix = (bits_of(matrix) | bits).view(dtype)
    gone = (torch.rand(out, ins, generator=generator) < 0.3) | (matrix == 0)
    matrix = bits_of(matrix).masked_fill(gone, 0).view(dtype)
    for build in (*ANY_MATRIX, partial(NM.from_dense, n=4, m=4)):
        stored = build(matrix)
        assert same_bits(stored.to_dense(), matrix)
        assert same_bits(stored.entries().to_dense(), matrix)
        assert same_bits(
            type(stored)
            .from_entries(stored.entries(), **({"n": 4, "m": 4} if stored.kind == "nm" else {}))
            .to_dense(),
            matrix,
        )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("build", [*ANY_MATRIX, partial(NM.from_dense, n=3, m=3)])
@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1), (17, 9)])
def test_empty_and_full_matrices_come_back(build, shape, device):
    for matrix in (torch.zeros(shape), torch.ones(shape), torch.eye(*shape)):
        stored = build(matrix.to(device))
        assert all(part.device.type == device for part in stored.parts().values())
        assert same_bits(stored.to_dense().cpu(), matrix)
        assert same_bits(reread(stored).to_dense(), matrix)


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
    assert CSC.from_dense(single).nbytes == 257 + 1 + 4
    assert COO.from_dense(single).nbytes == DOK.from_dense(single).nbytes == 1 + 1 + 4
    assert ELL.from_dense(single).nbytes == 64 * (1 + 4) + 64
    assert Hybrid.from_dense(single).nbytes == 1 + 1 + 4
    assert BSR.from_dense(single, (4, 8)).nbytes == 17 + 1 + 4 * 8 * 4
    same = weight.masked_fill(~keep_n_of_m(weight.abs(), 16, 256), 0.0)
    assert ELL.from_dense(same).nbytes == Hybrid.from_dense(same).nbytes == 64 * 16 * (1 + 4)


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


@given(st.lists(st.booleans(), max_size=40))
def test_bits_are_packed_alike_on_every_device(flags):
    flags = torch.tensor(flags, dtype=torch.bool)
    assert torch.equal(_pack_on_device(flags), pack_bits(flags))
    assert torch.equal(_unpack_on_device(pack_bits(flags), len(flags)), flags)


def test_products_find_32_bits_or_hear_that_they_do_not_suffice():
    assert to_int32(torch.tensor([65535], dtype=torch.uint16), 2**31).tolist() == [65535]
    with pytest.raises(ValueError, match="32 bits"):
        to_int32(torch.tensor([0]), 2**31 + 1)


@pytest.mark.parametrize("limit", [3, 2**16, 2**16 + 1, 2**40])
def test_a_stable_order_keeps_equals_in_place(limit):
    values = torch.tensor([2, 0, 2, 1, 0, limit - 1, 2])
    assert stable_order(values, limit).tolist() == sorted(range(7), key=lambda i: int(values[i]))


def damaged():
    matrix = torch.zeros(4, 8)
    matrix[1, 2], matrix[3, 7] = 1.0, -2.0
    csr, csc, coo, bitmap, nm, grouped, dense = (
        f.from_dense(matrix) for f in (CSR, CSC, COO, Bitmap, NM, Grouped, Dense)
    )
    bsr, ell, dok = BSR.from_dense(matrix, (3, 3)), ELL.from_dense(matrix), DOK.from_dense(matrix)
    u8 = partial(torch.tensor, dtype=torch.uint8)
    yield csr, {"col_indices": u8([2, 8])}
    yield csr, {"crow_indices": u8([0, 0, 1, 1, 3])}
    yield csr, {"crow_indices": u8([0, 2, 1, 1, 2])}
    yield csr, {"crow_indices": u8([0, 2])}
    yield csr, {"crow_indices": u8([0, 0, 2, 2, 2]), "col_indices": u8([2, 2])}
    yield csr, {"crow_indices": u8([0, 0, 2, 2, 2]), "col_indices": u8([7, 2])}
    yield csc, {"row_indices": u8([1, 4])}
    yield csc, {"ccol_indices": u8([0, 0, 0, 1, 1, 1, 2, 2])}
    yield csc, {"values": torch.ones(3)}
    for indices in (coo, dok):
        yield indices, {"rows": u8([1, 4])}
        yield indices, {"columns": u8([2, 8])}
        yield indices, {"rows": u8([1, 1]), "columns": u8([2, 2])}
        yield indices, {"rows": u8([3, 1])}
        yield indices, {"values": torch.ones(3)}
        yield indices, {"columns": u8([2])}
    yield bsr, {"crow_indices": u8([0, 1])}
    yield bsr, {"col_indices": u8([0, 3])}
    yield bsr, {"values": torch.zeros(2, 3, 2)}
    yield bsr, {"values": torch.ones(2, 3, 3)}
    yield ell, {"columns": u8([[0], [2], [0], [8]])}
    yield ell, {"columns": u8([[1], [2], [0], [7]])}
    yield ell, {"columns": u8([0, 2, 0, 7])}
    yield ell, {"values": torch.ones(4, 1)}
    yield ell, {"values": torch.ones(4, 2)}
    yield ell, {"counts": u8([0, 2, 0, 1])}
    yield ell, {"counts": u8([0, 1])}
    long = Hybrid.from_dense(torch.cat([matrix, torch.eye(1, 8) + 1]))
    assert long.ell.width == 0
    hybrid = Hybrid.from_entries(long.entries(), width=1)
    yield hybrid, {"rest_columns": u8([0, 2, 3, 4, 5, 6, 7])}
    yield hybrid, {"rest_rows": u8([2, 4, 4, 4, 4, 4, 4])}
    yield hybrid, {"rest_values": torch.ones(7, dtype=torch.float64)}
    yield hybrid, {"ell_columns": u8([[0], [2], [0], [9], [0]])}
    yield bitmap, {"bits": u8([255, 0, 0, 0])}
    yield bitmap, {"bits": u8([1])}
    yield nm, {"indices": u8([0])}
    yield nm, {"values": torch.zeros(3)}
    yield grouped, {"rows": u8([1, 4])}
    yield grouped, {"columns": u8([1, 4, 5])}
    yield grouped, {"columns": u8([4, 1])}
    yield grouped, {"rows": u8([1, 1])}
    yield nm, {"indices": u8([0b01000100, 0b01000100, 0b01000100, 0b01010100])}
    yield dense, {"values": torch.zeros(2, 2)}


@pytest.mark.parametrize(("stored", "change"), list(damaged()))
def test_damaged_parts_are_refused(stored, change):
    with pytest.raises(ValueError, match=r"\w"):
        type(stored).from_parts({**stored.parts(), **change}, stored.meta())


@pytest.mark.parametrize("shape", [[4], [-4, 8], ["4", 8], [4, 8, 1], 5])
def test_a_meta_without_a_shape_is_refused(shape):
    for kind in FORMATS.keys() - {"nm"}:
        stored = FORMATS[kind].from_dense(torch.ones(4, 8))
        with pytest.raises((ValueError, TypeError)):
            type(stored).from_parts(stored.parts(), {**stored.meta(), "shape": shape})


@pytest.mark.parametrize("block", [[0, 4], [4, -1], [4], ["4", 4], [4.0, 4]])
def test_a_meta_without_a_block_is_refused(block):
    stored = BSR.from_dense(torch.ones(4, 8))
    with pytest.raises(ValueError, match=r"block|unpack"):
        BSR.from_parts(stored.parts(), {"shape": [4, 8], "block": block})


def test_ragged_runs_hold_nothing_beyond_the_last_column():
    stored = NM.from_dense(torch.tensor([[1.0, 0.0, 1.0]]), 1, 2)
    assert stored.places.tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="beyond"):
        NM.from_parts({**stored.parts(), "indices": torch.tensor([2], dtype=torch.uint8)},
                      stored.meta())  # fmt: skip


def test_nm_meta_is_checked():
    stored = NM.from_dense(torch.zeros(4, 8))
    for n, m in ((3, 2), (0, 4), ("2", 4), (2, 3)):
        with pytest.raises(ValueError, match=r"N:M|shape|below"):
            NM.from_parts(stored.parts(), {"shape": [4, 8], "n": n, "m": m})
    with pytest.raises(ValueError, match="no N:M"):
        NM.from_dense(torch.zeros(4, 8), 5, 4)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_matrix_says_its_shape_and_bytes_and_not_its_numbers(kind):
    stored = FORMATS[kind].from_dense(torch.eye(4))
    words = repr(stored)
    assert words.startswith(f"{type(stored).__name__}([4, 4], ")
    assert words.endswith(f"; {stored.nbytes} bytes)")
    assert "tensor" not in words
