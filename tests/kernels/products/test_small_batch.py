"""The ELL, bitmap and N:M products against the dense layer in double precision."""

from __future__ import annotations

import pytest
import torch

from secateur.kernels import reference
from secateur.kernels.formats import ELL, NM
from secateur.kernels.products import small_batch
from secateur.kernels.products.bitmap import bitmap_cuda, bitmap_linear
from secateur.kernels.products.bitmap_mma import bitmap_mma
from secateur.kernels.products.bitmap_tiles import BitmapTiles
from secateur.kernels.products.ell import ell_linear
from secateur.kernels.products.nm import nm_columns, nm_linear
from secateur.kernels.selection.select import keep_n_of_m

# Relative to the norm: sums are in fp32, outputs rounded once, and again with the bias on the CPU.
TOLERANCE = {
    torch.float32: 1e-5,
    torch.float16: 5e-3,
    torch.bfloat16: 3e-2,
}
DTYPES = list(TOLERANCE)
SHAPES = [(1, 1, 1), (17, 33, 3), (9, 130, 5), (150, 40, 8), (5, 300, 11), (16, 128, 17)]


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scattered(out: int, ins: int, density: float, dtype: torch.dtype) -> torch.Tensor:
    """A matrix with zeros anywhere, its second row empty and its third full."""
    kept = torch.rand(out, ins, generator=torch.Generator().manual_seed(1)) < density
    kept[1:2] = False
    kept[2:3] = True
    return (seeded(out, ins) * kept).to(dtype)


def regular(out: int, ins: int, n: int, m: int, dtype: torch.dtype) -> torch.Tensor:
    """An N:M matrix; the last run of a row may be short."""
    padded = seeded(out, -(-ins // m) * m)
    padded[:, ins:] = 0
    return (padded * keep_n_of_m(padded.abs().float(), n, m))[:, :ins].to(dtype)


def close(result: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    assert result.dtype == dtype
    assert result.shape == expected.shape
    assert result.is_contiguous()
    error = (result.cpu().double() - expected.cpu()).norm()
    assert error <= TOLERANCE[dtype] * expected.norm(), float(error / expected.norm())


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
@pytest.mark.parametrize(("out", "ins", "batch"), SHAPES)
def test_ell(backend, dtype, density, out, ins, batch):
    matrix = scattered(out, ins, density, dtype)
    stored = ELL.from_dense(matrix.to(backend.device))
    x, bias = seeded(batch, ins, seed=2).to(dtype), seeded(out, seed=3).to(dtype)
    expected = reference.linear(matrix, x, bias)
    for columns in (stored.columns.int(), stored.columns.to(torch.uint16)):
        with backend.active():
            result = ell_linear(
                columns, stored.values, x.to(backend.device), bias.to(backend.device)
            )
        close(result, expected, dtype)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
@pytest.mark.parametrize(("out", "ins", "batch"), SHAPES)
def test_bitmap(backend, dtype, density, out, ins, batch):
    matrix = scattered(out, ins, density, dtype)
    stored = BitmapTiles.from_dense(matrix.to(backend.device))
    x, bias = seeded(batch, ins, seed=2).to(dtype), seeded(out, seed=3).to(dtype)
    with backend.active():
        result = bitmap_linear(stored, x.to(backend.device), bias.to(backend.device))
    close(result, reference.linear(matrix, x, bias), dtype)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("ins", "batch"), [(140, 1), (140, 2), (2200, 3), (140, 9)])
@pytest.mark.parametrize("product", [bitmap_cuda, bitmap_mma])
def test_both_ways_of_bitmap(backend, product, dtype, ins, batch):
    if backend.name == "torch" or (product is bitmap_mma and dtype == torch.float32):
        product = bitmap_linear
    matrix = scattered(21, ins, 0.4, dtype)
    stored = BitmapTiles.from_dense(matrix.to(backend.device))
    x = seeded(batch, ins, seed=2).to(dtype)
    with backend.active():
        result = product(stored, x.to(backend.device), None)
    close(result, reference.linear(matrix, x), dtype)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("n", "m"), [(2, 4), (1, 4), (4, 8), (2, 8), (1, 2), (3, 5), (1, 1), (5, 16), (1, 200)]
)
@pytest.mark.parametrize(("out", "ins", "batch"), [(1, 1, 1), (17, 33, 3), (6, 130, 9)])
def test_nm(backend, dtype, n, m, out, ins, batch):
    matrix = regular(out, ins, n, m, dtype)
    stored = NM.from_dense(matrix.to(backend.device), n, m)
    x, bias = seeded(batch, ins, seed=2).to(dtype), seeded(out, seed=3).to(dtype)
    with backend.active():
        result = nm_linear(
            stored.values,
            stored.indices,
            x.to(backend.device),
            bias.to(backend.device),
            n=n,
            m=m,
        )
    close(result, reference.linear(matrix, x, bias), dtype)


def products(matrix: torch.Tensor):
    """Each product with its matrix bound."""
    ell, tiles, nm = ELL.from_dense(matrix), BitmapTiles.from_dense(matrix), NM.from_dense(matrix)
    shape = {"n": nm.n, "m": nm.m}
    return {
        "ell": lambda x, bias=None: ell_linear(ell.columns, ell.values, x, bias),
        "bitmap": lambda x, bias=None: bitmap_linear(tiles, x, bias),
        "nm": lambda x, bias=None: nm_linear(nm.values, nm.indices, x, bias, **shape),
    }


KINDS = ["ell", "bitmap", "nm"]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leading", [(), (0,), (2, 3), (2, 0)])
def test_any_leading_shape_and_no_bias(backend, kind, leading):
    matrix = regular(12, 36, 2, 4, torch.float32)
    x = seeded(*leading, 36, seed=2).float()
    product = products(matrix.to(backend.device))[kind]
    with backend.active():
        result = product(x.to(backend.device))
    close(result, reference.linear(matrix, x), torch.float32)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_lie_otherwise_in_memory(backend, kind):
    matrix = regular(12, 36, 2, 4, torch.float32)
    product = products(matrix.to(backend.device))[kind]
    across = seeded(36, 5, seed=2).float().to(backend.device).T
    shifted = seeded(5 * 36 + 1, seed=3).float().to(backend.device)[1:].view(5, 36)
    apart = seeded(5, 72, seed=4).float().to(backend.device)[:, ::2]
    for x in (across, shifted, apart):
        with backend.active():
            result = product(x)
        close(result, reference.linear(matrix, x), torch.float32)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("out", "ins"), [(0, 20), (20, 0)])
def test_an_empty_layer(backend, kind, out, ins):
    product = products(torch.zeros(out, ins, device=backend.device))[kind]
    bias = seeded(out).float().to(backend.device)
    with backend.active():
        result = product(torch.ones(3, ins, device=backend.device), bias)
    assert torch.equal(result, bias.expand(3, out))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("kind", ["ell", "nm"])
@pytest.mark.parametrize("room", [0, 300, 1 << 20])
def test_inputs_too_large_for_shared_memory(backend, kind, room, monkeypatch):
    monkeypatch.setattr(small_batch, "_SHARED", room)
    matrix = regular(9, 52, 2, 4, torch.float32)
    x = seeded(7, 52, seed=2).float()
    product = products(matrix.to(backend.device))[kind]
    with backend.active():
        result = product(x.to(backend.device))
    close(result, reference.linear(matrix, x), torch.float32)


def test_the_cut_keeps_x_small_and_lanes_busy():
    staged = small_batch.cut(4096, 410, torch.empty(8, 4096, dtype=torch.float16))
    assert (staged.tile, staged.lanes, staged.block) == (8, 32, (512,))
    assert staged.shared == (4096 + 256 + 1) * 8 * 2 <= 96 << 10
    assert small_batch.cut(4096, 50, torch.empty(3, 512)).tile == 4
    assert small_batch.cut(4096, 50, torch.empty(3, 512)).lanes == 8
    assert small_batch.cut(64, 50, torch.empty(1, 50_000)).suffix == "direct"
    assert small_batch.cut(64, 50, torch.empty(33, 512)).grid[1] == 5


@pytest.mark.parametrize(("out", "ins"), [(1, 1), (8, 128), (9, 129), (20, 300), (0, 5), (5, 0)])
def test_bitmap_tiles_give_the_matrix_back(out, ins):
    matrix = scattered(out, ins, 0.3, torch.float32)
    stored = BitmapTiles.from_dense(matrix)
    assert torch.equal(stored.to_dense(), matrix)
    assert len(stored.values) == int((matrix != 0).sum())


def test_bitmap_tiles_lie_as_the_kernels_read_them():
    matrix = torch.zeros(16, 256)
    matrix[10, 128 + 35] = 5.0  # strip 1, chunk 1, tile 2, row 2, column 3: bit 35 of 128
    stored = BitmapTiles.from_dense(matrix)
    assert stored.words.shape == (2, 2, 32)
    assert torch.nonzero(stored.words).tolist() == [[1, 1, 4 * 2 + 1]]
    assert int(stored.words[1, 1, 9]) == 1 << 3
    assert stored.offsets.tolist() == [[0, 0], [0, 0]]


def test_a_masked_entry_may_be_zero():
    mask = torch.tensor([[True, False], [True, True]])
    stored = BitmapTiles.from_dense(torch.tensor([[0.0, 3.0], [1.0, 0.0]]), mask)
    assert stored.values.tolist() == [0.0, 1.0, 0.0]
    assert stored.to_dense().tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_fillers_of_a_short_run_stay_in_the_row():
    stored = NM.from_dense(torch.zeros(2, 5), 2, 4)
    columns = nm_columns(stored.values, stored.indices, 5, n=2, m=4)
    assert columns.max() == 4


def test_double_precision_is_refused_by_the_kernels(emulate):
    matrix = regular(4, 8, 2, 4, torch.float64)
    for product in products(matrix).values():
        torch.testing.assert_close(product(seeded(2, 8)), seeded(2, 8) @ matrix.T)
        with emulate.emulated(), pytest.raises(TypeError, match="float64"):
            product(seeded(2, 8))
