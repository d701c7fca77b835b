"""The convolution without whole input positions, every way of it against the dense one."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from secateur.kernels import reference
from secateur.kernels.products.grouped import backward
from secateur.kernels.products.grouped import conv as by_float
from secateur.kernels.products.grouped import conv_mma as by_mma
from secateur.kernels.products.grouped.conv import grouped_conv, grouped_conv_backward
from secateur.kernels.products.grouped.launch import Convolution, conv_by_tiles
from secateur.kernels.products.grouped.tiles import MMA_TILES, SIMT_TILES, Cut

TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}
TF32 = 1e-3
DTYPES = list(TOLERANCE)
METHODS = ("tile", "mma")
# x, out, and how the kernel walks.
CASES = {
    "same": ((3, 6, 9, 7), 10, {"kernel": (3, 3), "padding": (1, 1)}),
    "stride": ((2, 5, 11, 8), 37, {"kernel": (3, 2), "stride": (2, 3), "padding": (1, 0)}),
    "dilated": ((1, 4, 12, 13), 3, {"kernel": (3, 3), "dilation": (2, 3), "padding": (2, 3)}),
    "pointwise": ((2, 20, 5, 5), 70, {"kernel": (1, 1)}),
    "padded beyond": ((1, 2, 3, 3), 4, {"kernel": (1, 2), "padding": (2, 3)}),
    "groups": ((2, 6, 6, 5), 8, {"kernel": (3, 3), "padding": (1, 1), "groups": 2}),
    "depthwise": ((1, 5, 7, 6), 5, {"kernel": (3, 3), "groups": 5}),
    "one dimension": ((3, 7, 20), 9, {"kernel": (5,), "stride": (2,), "padding": (3,)}),
    "three": ((1, 3, 5, 6, 4), 6, {"kernel": (2, 3, 3), "stride": (2, 1, 1), "padding": (1, 1, 0)}),
}

pytestmark = pytest.mark.usefixtures("poisoned")


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case(name, density, dtype):
    """x, values, kept (in no order), bias and the walk."""
    shape, out, given = CASES[name]
    one, none = (1,) * len(given["kernel"]), (0,) * len(given["kernel"])
    walk = {"stride": one, "padding": none, "dilation": one, "groups": 1, **given}
    columns = shape[1] // walk["groups"] * math.prod(walk["kernel"])
    order = torch.randperm(columns, generator=torch.Generator().manual_seed(3))
    kept = order[: math.ceil(density * columns)].to(torch.int32)
    values = seeded(out, len(kept), seed=2).to(dtype)
    return seeded(*shape, seed=1).to(dtype), values, kept, seeded(out, seed=4).to(dtype), walk


def dense(x, values, kept, walk):
    channels = x.shape[1] // walk["groups"]
    matrix = reference.spread_columns(values, kept, channels * math.prod(walk["kernel"]))
    return matrix.view(len(values), channels, *walk["kernel"])


def expected(x, values, kept, bias, walk):
    rest = {name: part for name, part in walk.items() if name != "kernel"}
    return reference.convolution(dense(x, values, kept, walk), x, bias, **rest)


def close(result, target, dtype, tolerance=None):
    assert result.dtype == dtype
    assert result.shape == target.shape
    error = (result.cpu().double() - target).norm()
    assert error <= (tolerance or TOLERANCE[dtype]) * target.norm(), float(error / target.norm())


def methods(backend):
    return (None,) if backend.name == "torch" else (None, *METHODS)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_dense_convolution(backend, name, density, dtype):
    x, values, kept, bias, walk = case(name, density, dtype)
    target = expected(x, values, kept, bias, walk)
    on = [part.to(backend.device) for part in (x, values, kept, bias)]
    for method in methods(backend):
        with backend.active():
            y = grouped_conv(*on, **walk, method=method)
        tf32 = method == "mma" and dtype == torch.float32
        close(y, target, dtype, TF32 if tf32 else None)


def test_the_reference_is_torch():
    for name in CASES:
        x, values, kept, bias, walk = case(name, 0.5, torch.float64)
        weight = dense(x, values, kept, walk)
        functions = torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.conv3d
        rest = {part: walk[part] for part in ("stride", "padding", "dilation", "groups")}
        torch.testing.assert_close(
            functions[x.dim() - 3](x, weight, bias, **rest), expected(x, values, kept, bias, walk)
        )


def test_channels_last_no_bias_strided_values(backend):
    x, values, kept, _, walk = case("same", 0.4, torch.float32)
    wide = x.to(memory_format=torch.channels_last).to(backend.device)
    strided = torch.full((len(kept), len(values)), 7.0).T.copy_(values).to(backend.device)
    for method in methods(backend):
        with backend.active():
            y = grouped_conv(wide, strided, kept.to(backend.device), None, **walk, method=method)
        tolerance = TF32 if method == "mma" else None
        close(y, expected(x, values, kept, None, walk), torch.float32, tolerance)


def test_pruned_channels_are_not_read(backend):
    x, values, kept, bias, walk = case("same", 0.0, torch.float32)
    kept = torch.tensor([13, 40, 9], dtype=torch.int32)  # of channels 1 and 4
    values = seeded(10, 3).float()
    target = expected(x, values, kept, bias, walk)
    x[:, [0, 2, 3, 5]] = torch.nan
    on = [part.to(backend.device) for part in (x, values, kept, bias)]
    for method in methods(backend):
        with backend.active():
            y = grouped_conv(*on, **walk, method=method)
        close(y, target, torch.float32, TF32 if method == "mma" else None)


@pytest.mark.parametrize(("splits", "dtype"), [(1, torch.float32), (3, torch.float16)], ids=str)
@pytest.mark.parametrize(
    ("source", "tile"),
    [(by_float.SOURCE, tile) for tile in SIMT_TILES]
    + [(by_mma.SOURCE, tile) for tile in MMA_TILES],
    ids=lambda part: getattr(part, "macros", {}).get("BM"),
)
def test_every_tile_split_or_not(emulate, source, tile, splits, dtype):
    x = seeded(2, 22, 9, 8, seed=1).to(dtype)
    kept = torch.randperm(22 * 9, generator=torch.Generator().manual_seed(3))[:70].int()
    values, bias = seeded(140, 70, seed=2).to(dtype), seeded(140, seed=4).to(dtype)
    walk = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    three = Convolution((1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1), 1)
    with emulate.emulated():
        y = conv_by_tiles(source, Cut(tile, splits), x.unsqueeze(2), values, kept, bias, three)
    tf32 = source is by_mma.SOURCE and dtype == torch.float32
    target = expected(x, values, kept, bias, walk)
    close(y.squeeze(2), target, dtype, TF32 if tf32 else None)


def test_a_kernel_too_long_for_a_word_goes_through_torch(backend):
    x, values = seeded(2, 3, 50).float(), seeded(4, 20).float()
    kept = torch.arange(5, 105, 5, dtype=torch.int32)
    walk = {"kernel": (40,), "stride": (1,), "padding": (4,), "dilation": (1,), "groups": 1}
    with backend.active():
        y = grouped_conv(x, values, kept, None, **walk)
    close(y, expected(x, values, kept, None, walk), torch.float32)


def test_an_input_smaller_than_the_kernel(backend):
    x, values, kept, bias, walk = case("same", 0.5, torch.float32)
    with backend.active(), pytest.raises(ValueError, match="smaller than the kernel"):
        grouped_conv(x[:, :, :, :0], values, kept, bias, **(walk | {"padding": (0, 0)}))


def test_nothing_to_compute(backend):
    x, values, kept, bias, walk = case("same", 0.5, torch.float32)
    with backend.active():
        assert grouped_conv(x[:0], values, kept, bias, **walk).shape == (0, 10, 9, 7)


@pytest.mark.parametrize("density", [0.2, 0.5])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_gradients(backend, name, dtype, density):
    x, values, kept, _, walk = case(name, density, dtype)
    exact, weight = x.double().requires_grad_(), values.double().requires_grad_()
    y = grouped_conv(exact, weight, kept, None, **walk)
    grad = seeded(*y.shape[:-1], 2 * y.shape[-1], seed=9)[..., ::2].to(dtype)
    to_x, to_values = torch.autograd.grad(y, (exact, weight), grad.double())
    with backend.active():
        on = (part.to(backend.device) for part in (grad, x, values, kept))
        got = grouped_conv_backward(*on, **walk)
    close(got[0], to_x, dtype, 1e-12 if dtype == torch.float64 else None)
    close(got[1], to_values, dtype, 1e-12 if dtype == torch.float64 else None)


@pytest.mark.parametrize("bytes_at_once", [1, 300, 900])
@pytest.mark.parametrize("name", CASES)
def test_gradients_in_pieces(monkeypatch, name, bytes_at_once):
    x, values, kept, _, walk = case(name, 0.3, torch.float32)
    grad = torch.randn_like(grouped_conv(x, values, kept, None, **walk))
    call = partial(grouped_conv_backward, grad, x, values, kept, **walk)
    with monkeypatch.context() as patch:
        patch.setattr(by_float, "ready", lambda: False)
        wanted = call()
    monkeypatch.setattr(by_float, "_FEW", 1)
    monkeypatch.setattr(backward, "_PIECE", bytes_at_once)
    for found, target in zip(call(), wanted, strict=True):
        close(found, target, torch.float32)
