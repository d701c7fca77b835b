"""What products read: 32-bit indices, words of bits, and the order that a transposed one takes."""

from __future__ import annotations

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
    NM,
    Bitmap,
    Grouped,
)
from secateur.kernels.formats.bits import bits_for
from secateur.kernels.selection.select import keep_n_of_m

scipy_sparse = pytest.importorskip("scipy.sparse")  # comes with scikit-learn

SHAPES = [(1, 1), (7, 63), (5, 64), (6, 65), (3, 200), (40, 300), (0, 4), (4, 0)]


def rare(shape: tuple[int, int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    gone = torch.rand(shape, generator=generator) < 0.7
    return torch.randn(shape, generator=generator).masked_fill(gone, 0.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_compressed_formats_hold_what_scipy_holds(shape) -> None:
    matrix = rare(shape)
    csr, csc, coo = CSR.from_dense(matrix), CSC.from_dense(matrix), COO.from_dense(matrix)
    peer = scipy_sparse.csr_array(matrix.numpy())
    assert [part.tolist() for part in csr.indices32] == [
        peer.indptr.tolist(),
        peer.indices.tolist(),
    ]
    assert csr.values.tolist() == peer.data.tolist()
    peer = scipy_sparse.csc_array(matrix.numpy())
    assert [part.tolist() for part in csc.indices32] == [
        peer.indptr.tolist(),
        peer.indices.tolist(),
    ]
    assert csc.values.tolist() == csr.values[csr.csc_order].tolist() == peer.data.tolist()
    peer = scipy_sparse.coo_array(matrix.numpy())
    assert [part.tolist() for part in coo.indices32] == [peer.row.tolist(), peer.col.tolist()]
    assert all(p.dtype == torch.int32 for f in (csr, csc, coo) for p in f.indices32)
    assert csr.indices32 is csr.indices32


@pytest.mark.parametrize("block", [(2, 3), (1, 4), (3, 1), (6, 12)])
def test_blocks_are_those_of_scipy_and_of_torch(block) -> None:
    matrix = rare((6, 12)).masked_fill(torch.rand(6, 1) < 0.5, 0.0)
    bsr = BSR.from_dense(matrix, block)
    peer = scipy_sparse.csr_array(matrix.numpy()).tobsr(block)
    peer.sort_indices()
    crow, columns = bsr.indices32
    assert (crow.tolist(), columns.tolist()) == (peer.indptr.tolist(), peer.indices.tolist())
    assert torch.equal(bsr.values, torch.from_numpy(peer.data))
    assert crow.dtype == columns.dtype == torch.int32


def test_ragged_blocks_are_filled_up_with_zeros() -> None:
    bsr = BSR.from_dense(torch.ones(3, 5), (2, 4))
    assert bsr.values.shape == (4, 2, 4)
    assert bsr.values.sum(dim=(1, 2)).tolist() == [8, 2, 4, 1]
    assert bsr.values[3].tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]
    assert bsr.values[1].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize("shape", SHAPES)
def test_words_of_a_bitmap_are_aligned_by_row(shape) -> None:
    matrix = rare(shape)
    bitmap, (out, ins) = Bitmap.from_dense(matrix), shape
    assert bitmap.words.shape == (out, -(-ins // 64))
    assert bitmap.words.dtype == torch.int64
    assert bitmap.offsets.dtype == torch.int32
    found = torch.zeros(shape)
    for row in range(out):
        place = int(bitmap.offsets[row])
        for column in range(64 * bitmap.words.shape[1]):
            if int(bitmap.words[row, column // 64]) >> (column % 64) & 1:
                found[row, column] = bitmap.values[place]
                place += 1
        assert place == int(bitmap.offsets[row + 1])
    assert torch.equal(found, matrix)
    assert bitmap.offsets.tolist() == CSR.from_dense(matrix).indices32[0].tolist()


@settings(deadline=None, max_examples=60)
@given(
    out=st.integers(0, 5), ins=st.integers(0, 80), n=st.integers(1, 4),
    m=st.sampled_from([2, 4, 5, 8, 16, 32, 300]), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_words_of_nm_indices_say_where_each_value_stands(out, ins, n, m, seed) -> None:
    n = min(n, m)
    weight = torch.randn(out, ins, generator=torch.Generator().manual_seed(seed))
    if weight.numel():
        weight = weight.masked_fill(~keep_n_of_m(weight.abs(), n, m), 0.0)
    nm, bits = NM.from_dense(weight, n, m), bits_for(m)
    per, width = 32 // bits, nm.values.shape[1]
    assert nm.index_words.shape == (out, -(-width // per))
    assert nm.index_words.dtype == torch.int32
    found = torch.zeros(out, -(-ins // m) * m)
    for row, words in enumerate(nm.index_words.tolist()):
        for j in range(width):
            place = words[j // per] >> (j % per * bits) & (2**bits - 1)
            found[row, j // n * m + place] = nm.values[row, j]
        if words:  # what is left over is 0
            assert (words[-1] & 0xFFFFFFFF) >> ((width - (len(words) - 1) * per) * bits) == 0
    assert torch.equal(found[:, :ins], weight)


def test_two_bit_indices_lie_lowest_first() -> None:
    matrix = torch.tensor([[0.0, 1, 0, 2, 3, 4, 0, 0], [0, 0, 5, 6, 7, 0, 0, 8]])
    nm = NM.from_dense(matrix)
    assert nm.places.tolist() == [[1, 3, 0, 1], [2, 3, 0, 3]]
    assert nm.indices.tolist() == [1 | 3 << 2 | 0 << 4 | 1 << 6, 2 | 3 << 2 | 0 << 4 | 3 << 6]
    assert nm.index_words.tolist() == [[nm.indices[0].item()], [nm.indices[1].item()]]


def test_grouped_and_ell_indices_have_32_bits() -> None:
    matrix = torch.zeros(4, 300)
    matrix[1, 2] = matrix[1, 299] = 1
    rows, columns = Grouped.from_dense(matrix).indices32
    assert rows is not None
    assert columns is not None
    assert (rows.tolist(), columns.tolist()) == ([1], [2, 299])
    assert rows.dtype == columns.dtype == ELL.from_dense(matrix).columns32.dtype == torch.int32
    assert Grouped.from_dense(torch.ones(2, 2)).indices32 == (None, None)


def test_dok_reads_as_the_one_of_scipy() -> None:
    matrix = rare((5, 7))
    dok, peer = DOK.from_dense(matrix), scipy_sparse.dok_array(matrix.numpy())
    assert dict(dok) == dict(dok.items()) == {key: float(v) for key, v in peer.items()}
    assert dok == dict(dok)
    assert list(dok) == sorted(peer.keys())
    assert len(dok) == peer.nnz
    for row in range(-5, 5):
        for column in range(-7, 7):
            assert dok[row, column] == peer[row, column]
    stored, empty = next(iter(dok)), tuple((matrix == 0).nonzero()[0].tolist())
    assert stored in dok
    assert empty not in dok
    assert "text" not in dok
    assert dok.get(stored) == peer.get(stored)
    assert dok.get(empty) == peer.get(empty) == 0.0
    assert dok.get(empty, None) is None
    for key in ((5, 0), (0, 7), (-6, 0), (0, -8)):
        with pytest.raises(IndexError, match="is not in a matrix"):
            dok[key]


def test_dok_is_made_of_a_dictionary_and_changed_into_another() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        dok = DOK.of({(2, 1): 3.0, (0, 4): -1.5}, (3, 5), dtype)
        expected = torch.zeros(3, 5, dtype=dtype)
        expected[2, 1], expected[0, 4] = 3.0, -1.5
        assert dok.to_dense().dtype == dtype
        assert torch.equal(dok.to_dense(), expected)
        changed = dok | {(0, 0): 1.0, (2, 1): 0.0}
        assert torch.equal(dok.to_dense(), expected)
        expected[0, 0], expected[2, 1] = 1.0, 0.0
        assert torch.equal(changed.to_dense(), expected)
        assert (2, 1) in changed
    assert len(DOK.of({}, (3, 5))) == 0
    assert DOK.of({}, (3, 5)).to_dense().count_nonzero() == 0
    for key in ((3, 0), (0, 5), (-1, 0)):
        with pytest.raises(IndexError, match="is not in a matrix"):
            DOK.of({key: 1.0}, (3, 5))
