from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.kernels.products.grouped import cpu
from secateur.kernels.products.grouped.cpu import Gather, Window, grouped_conv_cpu

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13, torch.float16: 2e-3, torch.bfloat16: 2e-2}
LAYERS = {
    "same": (nn.Conv2d, {"kernel_size": 3, "padding": 1}),
    "no padding": (nn.Conv2d, {"kernel_size": (2, 3)}),
    "1x1": (nn.Conv2d, {"kernel_size": 1}),
    "1x1, stride": (nn.Conv2d, {"kernel_size": 1, "stride": 2}),
    "stride": (nn.Conv2d, {"kernel_size": 3, "padding": 1, "stride": 2}),
    "uneven stride": (nn.Conv2d, {"kernel_size": (4, 5), "padding": (1, 2), "stride": (1, 3)}),
    "dilation": (nn.Conv2d, {"kernel_size": 3, "padding": (2, 3), "dilation": (2, 3)}),
    "dilation, stride": (nn.Conv2d, {"kernel_size": 3, "dilation": 2, "stride": (3, 2)}),
    "all padding": (nn.Conv2d, {"kernel_size": 2, "padding": 12, "stride": 3, "dilation": 9}),
    "groups": (nn.Conv2d, {"kernel_size": 3, "padding": 1, "groups": 2}),
    "groups, 1x1": (nn.Conv2d, {"kernel_size": 1, "groups": 3}),
    "1-d": (nn.Conv1d, {"kernel_size": 4, "padding": 2, "stride": 3}),
    "1-d, groups": (nn.Conv1d, {"kernel_size": 3, "dilation": 2, "groups": 6}),
    "3-d": (nn.Conv3d, {"kernel_size": (2, 3, 3), "padding": (1, 2, 1), "stride": (1, 2, 2)}),
    "3-d, dilation": (nn.Conv3d, {"kernel_size": 2, "dilation": (2, 1, 3), "stride": (2, 1, 1)}),
}


def given(module: nn.Module, layout: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """An input [3, channels, ...] that lies in memory as `layout` says."""
    size = (11, 10, 13)[: module.weight.dim() - 2]
    x = torch.randn(3, module.in_channels, *size, dtype=dtype)
    if layout == "channels last":
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "a part":
        wide = torch.randn(4, *(2 * n for n in x.shape[1:]), dtype=dtype)
        return wide[(slice(1, None), *(slice(1, None, 2) for _ in x.shape[1:]))]
    return x


def compare(module: nn.Module, x: torch.Tensor, density: float) -> torch.Tensor:
    """Hold the product against the dense layer with the columns set to zero, in fp64."""
    weight = module.weight.detach()
    mask = torch.rand(weight[0].numel()) < density
    kept = torch.nonzero(mask).flatten()
    pads = tuple((n, n) for n in module.padding)
    window = Window(module.kernel_size, module.stride, module.dilation, pads)
    gather = Gather.plan(window, kept, x, module.groups)
    values = weight.flatten(1)[:, kept].to(x.dtype)
    bias = None if module.bias is None else module.bias.detach().to(x.dtype)
    found = grouped_conv_cpu(x, values, bias, gather, module.groups)

    full = torch.zeros_like(weight.flatten(1), dtype=torch.float64)
    full[:, kept] = values.double()
    dense = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}[weight.dim() - 2]
    options = (module.stride, module.padding, module.dilation, module.groups)
    wanted = dense(
        x.double(), full.view_as(weight), None if bias is None else bias.double(), *options
    )
    assert found.shape == wanted.shape
    assert found.dtype == x.dtype
    error = (found.double() - wanted).norm()
    assert error <= TOLERANCE[x.dtype] * wanted.norm()
    return found


@pytest.mark.parametrize("piece", [1, 3000, 2 << 20])
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "a part"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_product_is_the_dense_layers(name, layout, piece, monkeypatch, poisoned):
    """Pieces of one pixel row, of a few, and of all images."""
    monkeypatch.setattr(cpu, "_PIECE", piece)
    torch.manual_seed(1)
    kind, options = LAYERS[name]
    for density in (0.0, 0.3, 1.0):
        module = kind(6, 12, **options)
        compare(module, given(module, layout), density)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_every_floating_dtype(dtype, layout, poisoned):
    torch.manual_seed(2)
    for bias in (False, True):
        module = nn.Conv2d(6, 12, 3, padding=1, stride=2, bias=bias)
        compare(module, given(module, layout, dtype), 0.3)


def test_the_output_lies_as_the_dense_layers():
    module = nn.Conv2d(6, 12, 3)
    assert compare(module, given(module, "contiguous"), 0.5).is_contiguous()
    found = compare(module, given(module, "channels last"), 0.5)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_plan_serves_any_number_of_inputs():
    window = Window((3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)))
    weight = torch.randn(4, 2 * 9)
    gather = Gather.plan(window, torch.arange(18), torch.empty(2, 2, 7, 7))
    for batch in (0, 1, 2, 5):
        x = torch.randn(batch, 2, 7, 7)
        wanted = torch.conv2d(x, weight.view(4, 2, 3, 3), padding=1)
        torch.testing.assert_close(grouped_conv_cpu(x, weight, None, gather), wanted)


def test_an_input_smaller_than_the_kernel_is_refused():
    window = Window((3,), (1,), (4,), ((1, 1),))
    with pytest.raises(ValueError, match="smaller than the kernel"):
        Gather.plan(window, torch.arange(3), torch.empty(2, 1, 6))
