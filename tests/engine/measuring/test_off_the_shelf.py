"""Each off-the-shelf form computes what the masked dense layer does."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from secateur.engine.measuring.off_the_shelf import GemmLayer, SparseProduct, ThinnedConv
from secateur.engine.measuring.stages import time_steps

LAYERS = {
    "linear": (nn.Linear(37, 20), (2, 5, 37)),
    "one sample": (nn.Linear(37, 20, bias=False), (1, 37)),
    "3x3": (nn.Conv2d(5, 12, 3, padding=1), (3, 5, 9, 7)),
    "strided": (nn.Conv2d(5, 12, (3, 2), stride=(2, 1), padding=(1, 0), bias=False), (2, 5, 9, 8)),
    "dilated": (nn.Conv2d(4, 6, 3, dilation=2), (1, 4, 9, 9)),
    "1x1": (nn.Conv2d(5, 12, 1), (2, 5, 4, 4)),
}


def masked(layer: nn.Module, mask: torch.Tensor) -> nn.Module:
    pruned = copy.deepcopy(layer)
    with torch.no_grad():
        pruned.weight.masked_fill_(~mask.view_as(pruned.weight), 0)
    return pruned


def masks(layer: nn.Module, kept: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Scattered entries, and whole columns; at least one of each stays."""
    generator = torch.Generator().manual_seed(1)
    matrix = layer.weight.flatten(1)
    scattered = torch.rand(matrix.shape, generator=generator) < kept
    columns = torch.rand(matrix.shape[1], generator=generator) < kept
    scattered[0, 0] = columns[0] = True
    return scattered, columns.expand_as(matrix)


def equal(form: nn.Module, layer: nn.Module, x: torch.Tensor) -> None:
    with torch.inference_mode():
        torch.testing.assert_close(form(x), layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_each_form_computes_the_masked_layer(name, kept):
    layer, shape = LAYERS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    scattered, columns = masks(layer, kept)
    equal(GemmLayer(layer), layer, x)
    equal(GemmLayer(layer, columns), masked(layer, columns), x)
    for block in (1, 4, 16):
        equal(SparseProduct(layer, scattered, block), masked(layer, scattered), x)
    if isinstance(layer, nn.Conv2d):
        equal(ThinnedConv(layer, columns), masked(layer, columns), x)


@settings(max_examples=25, deadline=None)
@given(
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    out=st.integers(1, 5),
)
def test_any_convolution_is_its_gemm(kernel, stride, padding, batch, channels, out):
    layer = nn.Conv2d(channels, out, kernel, stride=stride, padding=padding)
    x = torch.randn(batch, channels, 6, 7)
    scattered, columns = masks(layer, 0.6)
    equal(GemmLayer(layer, columns), masked(layer, columns), x)
    equal(ThinnedConv(layer, columns), masked(layer, columns), x)
    equal(SparseProduct(layer, scattered), masked(layer, scattered), x)


def test_the_thinned_im2col_follows_the_size_of_its_input():
    layer = nn.Conv2d(3, 4, 3, padding=1)
    _, columns = masks(layer, 0.5)
    form = ThinnedConv(layer, columns)
    for size in ((5, 6), (7, 4), (5, 6)):
        equal(form, masked(layer, columns), torch.randn(2, 3, *size))


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
     nn.Conv2d(4, 4, 3, padding="same"), nn.Conv1d(4, 4, 3), nn.LayerNorm(4)],
)  # fmt: skip
def test_other_layers_have_no_such_form(layer):
    with pytest.raises(ValueError, match="no off-the-shelf form"):
        GemmLayer(layer)


def test_steps_are_named_and_timed():
    layer = nn.Conv2d(4, 8, 3, padding=1)
    x = torch.randn(2, 4, 6, 6)
    _, columns = masks(layer, 0.5)
    for form, names in (
        (GemmLayer(layer), ["im2col", "multiply", "reshape"]),
        (GemmLayer(layer, columns), ["im2col", "select", "multiply", "reshape"]),
        (ThinnedConv(layer, columns), ["im2col", "multiply", "reshape"]),
        (SparseProduct(layer, columns), ["im2col", "multiply", "reshape"]),
        (GemmLayer(nn.Linear(6, 3), torch.ones(3, 6) > 0), ["select", "multiply"]),
        (SparseProduct(nn.Linear(6, 3), torch.ones(3, 6) > 0), ["reshape", "multiply"]),
    ):
        steps = time_steps(form, x, seconds=0.005)
        assert [step["name"] for step in steps] == names
        assert all(step["ms"] > 0 for step in steps)
