"""The linear layer without whole columns: every way of it against the dense layer with zeros."""

from __future__ import annotations

import pytest
import torch

from secateur.kernels import reference
from secateur.kernels.formats.grouped import Grouped
from secateur.kernels.products.grouped import linear as by_float
from secateur.kernels.products.grouped import linear_mma as by_mma
from secateur.kernels.products.grouped.columns import pack_columns, unpack_format
from secateur.kernels.products.grouped.launch import linear_by_tiles
from secateur.kernels.products.grouped.linear import grouped_linear, grouped_linear_backward
from secateur.kernels.products.grouped.tiles import (
    MMA_TILES,
    SIMT_TILES,
    Cut,
    aligned_rows,
    cut,
)

# Relative to the norm: sums are in fp32, outputs rounded once. tf32 rounds both factors to 2^-11.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}
TF32 = 1e-3
DTYPES = list(TOLERANCE)
METHODS = ("rows", "tile", "mma", "gathered")
# out, in, batch; batches to 8 also go through the rows.
SHAPES = [(1, 1, 1), (37, 50, 5), (70, 131, 8), (5, 260, 21), (130, 33, 66)]

pytestmark = pytest.mark.usefixtures("poisoned")


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case(out, ins, batch, density, dtype):
    """x, values, kept (in no order) and bias; what is not kept is NaN in x and must not matter."""
    order = torch.randperm(ins, generator=torch.Generator().manual_seed(3))
    kept = order[: round(density * ins)].to(torch.int32)
    x = torch.full((batch, ins), torch.nan, dtype=dtype)
    x[:, kept.long()] = seeded(batch, len(kept), seed=1).to(dtype)
    return x, seeded(out, len(kept), seed=2).to(dtype), kept, seeded(out, seed=4).to(dtype)


def expected(x, values, kept, bias):
    matrix = reference.spread_columns(values, kept, x.shape[-1])
    return reference.linear(matrix, x.nan_to_num(), bias)


def close(result, target, dtype, tolerance=None):
    assert result.dtype == dtype
    assert result.shape == target.shape
    error = (result.cpu().double() - target).norm()
    assert error <= (tolerance or TOLERANCE[dtype]) * target.norm(), float(error / target.norm())


def methods(backend, batch):
    if backend.name == "torch":
        return (None,)
    return (None, *METHODS) if batch <= 8 else (None, *METHODS[1:])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.25, 1.0])
@pytest.mark.parametrize(("out", "ins", "batch"), SHAPES)
def test_equals_the_dense_layer(backend, dtype, density, out, ins, batch):
    x, values, kept, bias = case(out, ins, batch, density, dtype)
    target = expected(x, values, kept, bias)
    on = [part.to(backend.device) for part in (x, values, kept, bias)]
    for method in methods(backend, batch):
        with backend.active():
            y = grouped_linear(*on, method=method)
        tf32 = method == "mma" and dtype == torch.float32
        close(y, target, dtype, TF32 if tf32 else None)


def test_leading_dimensions_no_bias_strides(backend):
    x, values, kept, _ = case(37, 50, 12, 0.4, torch.float32)
    wide = torch.full((50, 12), 7.0).T.copy_(x).view(3, 2, 2, 50).to(backend.device)
    strided = torch.full((values.shape[1], 37), 7.0).T.copy_(values).to(backend.device)
    every_other = torch.full((len(kept), 2), 9, dtype=torch.int32)
    every_other[:, 0] = kept
    for method in methods(backend, 12):
        with backend.active():
            y = grouped_linear(wide, strided, every_other[:, 0].to(backend.device), method=method)
        target = expected(x, values, kept, None).view(3, 2, 2, 37)
        close(y, target, torch.float32, TF32 if method == "mma" else None)


@pytest.mark.parametrize(("out", "batch"), [(0, 3), (4, 0)])
def test_nothing_to_compute(backend, out, batch):
    x, values, kept, bias = case(out, 10, batch, 0.5, torch.float32)
    with backend.active():
        assert grouped_linear(x, values, kept, bias).shape == (batch, out)


@pytest.mark.parametrize(("splits", "dtype"), [(1, torch.float32), (3, torch.float16)], ids=str)
@pytest.mark.parametrize(
    ("source", "tile"),
    [(by_float.SOURCE, tile) for tile in SIMT_TILES]
    + [(by_mma.SOURCE, tile) for tile in MMA_TILES],
    ids=lambda part: getattr(part, "macros", {}).get("BM"),
)
def test_every_tile_split_or_not(emulate, source, tile, splits, dtype):
    x, values, kept, bias = case(135, 140, 67, 0.5, dtype)
    with emulate.emulated():
        y = linear_by_tiles(source, Cut(tile, splits), x, values, kept, bias)
    tf32 = source is by_mma.SOURCE and dtype == torch.float32
    close(y, expected(x, values, kept, bias), dtype, TF32 if tf32 else None)


def test_infinities_and_nan_of_kept_inputs_come_through(emulate):
    x, values, kept, _ = case(20, 40, 9, 0.5, torch.float32)
    x[1, kept[0]], x[2, kept[1]] = torch.inf, torch.nan
    for method in ("tile", "mma", "gathered"):
        with emulate.emulated():
            y = grouped_linear(x, values, kept, method=method)
        assert torch.equal(y.isfinite().all(dim=1), torch.arange(9).sub(1.5).abs() > 1)
        assert torch.equal(y[1].isinf(), values[:, 0] != 0)
        assert y[2].isnan().all()


def test_too_large_a_batch_for_the_rows(emulate):
    x, values, kept, bias = case(4, 6, 9, 0.5, torch.float32)
    with emulate.emulated(), pytest.raises(ValueError, match="9"):
        grouped_linear(x, values, kept, bias, method="rows")


def test_dtypes_that_differ(emulate):
    x, values, kept, bias = case(4, 6, 9, 0.5, torch.float32)
    with emulate.emulated(), pytest.raises(ValueError, match="float16"):
        grouped_linear(x, values, kept, bias.half())


def test_long_indices(emulate):
    x, values, kept, bias = case(20, 40, 9, 0.5, torch.float32)
    for method in ("tile", "gathered"):
        with emulate.emulated():
            y = grouped_linear(x, values, kept.long(), bias, method=method)
        close(y, expected(x, values, kept, bias), torch.float32)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.5, 1.0])
def test_gradients(backend, dtype, density):
    x, values, kept, _ = case(7, 12, 6, density, dtype)
    x = x.nan_to_num().view(2, 3, 12)
    grad = seeded(2, 3, 14, seed=9)[..., ::2].to(dtype)
    exact, weight = x.double().requires_grad_(), values.double().requires_grad_()
    dense = weight.new_zeros(7, 12).index_copy(1, kept.long(), weight)
    to_x, to_values = torch.autograd.grad(exact @ dense.T, (exact, weight), grad.double())
    with backend.active():
        got = grouped_linear_backward(
            *(part.to(backend.device) for part in (grad, x, values, kept))
        )
    # The dense gradient to x has entries for what is not kept only through zeros of the weight.
    close(got[0], to_x, dtype)
    close(got[1], to_values, dtype)


def test_columns_from_mask_zeros_and_format():
    matrix = seeded(6, 9)
    mask = torch.tensor([True, False, True, True, False, False, True, False, True])
    matrix[:, ~mask] = 0
    matrix[2] = 0
    by_mask, by_zeros = pack_columns(matrix, mask), pack_columns(matrix)
    by_format = unpack_format(Grouped.from_dense(matrix))
    for values, kept in (by_mask, by_zeros, by_format):
        assert kept.dtype == torch.int32
        assert kept.tolist() == [0, 2, 3, 6, 8]
        assert torch.equal(reference.spread_columns(values, kept, 9), matrix)
        assert values.stride(0) * values.element_size() % 16 == 0
    everything = unpack_format(Grouped.from_dense(torch.ones(3, 4)))
    assert everything[1].tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"bool \[9\]"):
        pack_columns(matrix, mask[:5])


def test_a_mask_keeps_zeros_too():
    values, kept = pack_columns(torch.zeros(2, 3), torch.tensor([True, False, True]))
    assert kept.tolist() == [0, 2]
    assert torch.equal(values, torch.zeros(2, 2))


def test_aligned_rows_are_not_copied():
    values, _ = pack_columns(seeded(5, 7).half())
    assert aligned_rows(values).data_ptr() == values.data_ptr()
    assert torch.equal(aligned_rows(values[:, 1:]), values[:, 1:])


def test_tiles_fit_the_outputs():
    cpu = torch.device("cpu")
    assert cut(MMA_TILES, 512, 4096, 100, 1, cpu) == Cut(MMA_TILES[0], 1)
    assert cut(MMA_TILES, 128, 4096, 100, 1, cpu) == Cut(MMA_TILES[1], 1)
    assert cut(MMA_TILES, 64, 4096, 100, 1, cpu) == Cut(MMA_TILES[2], 1)
    assert Cut(MMA_TILES[0], 1).blocks(512, 1000) == 2 * 8
