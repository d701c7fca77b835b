from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.kernels.products.gather import ChannelConv2d, GroupedConv2d, GroupedLinear, grouped

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def columns(count: int, density: float, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)) < density


def masked(module: nn.Module, mask: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The definition: the dense module with the columns set to zero."""
    weight = module.weight.detach().clone()
    with torch.inference_mode():
        module.weight.data = (weight.flatten(1) * mask.to(weight.device)).view_as(weight)
        result = module(x)
        module.weight.data = weight
    return result


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("density", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("shape", [(7, 20), (2, 3, 20), (20,)])
def test_linear(device, density, shape):
    torch.manual_seed(0)
    module = nn.Linear(20, 11).to(device)
    mask = columns(20, density).to(device)
    x = torch.randn(*shape, device=device)
    small = GroupedLinear.from_dense(module, mask)
    assert small.weight.shape == (11, int(mask.sum()))
    torch.testing.assert_close(small(x), masked(module, mask, x), rtol=1e-5, atol=1e-5)


CONVOLUTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "bias": False},
    {"kernel_size": (1, 3), "padding": (0, 1), "stride": (2, 1)},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 5, "padding": "same"},
    {"kernel_size": (2, 4), "padding": "same"},
    {"kernel_size": 3, "padding": "valid", "stride": 3},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": 2, "padding_mode": "circular", "dilation": (2, 1)},
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("form", [GroupedConv2d, ChannelConv2d])
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_convolution(device, form, options, density):
    torch.manual_seed(0)
    module = nn.Conv2d(6, 9, **options).to(device)
    mask = columns(module.weight[0].numel(), density, seed=2).to(device)
    mask[0] = True
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(3, 6, 13, 10, device=device).to(memory_format=memory_format)
        result = form.from_dense(module, mask)(x)
        torch.testing.assert_close(result, masked(module, mask, x), rtol=1e-4, atol=1e-5)


def test_nothing_kept_leaves_the_bias():
    module = nn.Conv2d(3, 4, 3)
    result = grouped(module, torch.zeros(27, dtype=torch.bool))(torch.randn(2, 3, 5, 5))
    torch.testing.assert_close(result, module.bias.detach()[None, :, None, None].expand(2, 4, 3, 3))


def test_double_precision_is_exact_to_rounding():
    module = nn.Conv2d(5, 7, 3, padding=1).double()
    mask, x = columns(45, 0.4), torch.randn(2, 5, 8, 8, dtype=torch.float64)
    result = GroupedConv2d.from_dense(module, mask)(x)
    torch.testing.assert_close(result, masked(module, mask, x), rtol=1e-12, atol=1e-12)


def test_the_form_follows_the_layout():
    module = nn.Conv2d(8, 4, 3)
    whole = torch.zeros(8, 9, dtype=torch.bool)
    whole[:3] = True
    small = grouped(module, whole.flatten())
    assert isinstance(small, ChannelConv2d)
    assert small.convolution.in_channels == 3
    assert isinstance(grouped(module, columns(72, 0.25)), GroupedConv2d)
    assert isinstance(grouped(nn.Linear(8, 4), columns(8, 0.5)), GroupedLinear)


def test_what_has_no_such_form_is_refused():
    with pytest.raises(ValueError, match="groups"):
        GroupedConv2d.from_dense(nn.Conv2d(4, 4, 3, groups=2), columns(18, 0.5))
    with pytest.raises(ValueError, match="bool"):
        GroupedLinear.from_dense(nn.Linear(8, 4), torch.ones(8))
    with pytest.raises(ValueError, match=r"\[8\]"):
        GroupedLinear.from_dense(nn.Linear(8, 4), columns(9, 0.5))
    with pytest.raises(ValueError, match="BatchNorm"):
        grouped(nn.BatchNorm2d(4), columns(4, 0.5))


def test_gradients_go_around_the_fused_gather():
    torch.manual_seed(0)
    module, mask = nn.Conv2d(4, 5, 3, padding=1, stride=2).double(), columns(36, 0.4)
    small = GroupedConv2d.from_dense(module, mask)
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64, requires_grad=True)
    result = small(x)
    torch.testing.assert_close(result.detach(), small(x.detach()), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(small, x)


def test_inputs_of_changing_sizes():
    torch.manual_seed(0)
    module, mask = nn.Conv2d(4, 5, 3, padding=1), columns(36, 0.4)
    small = GroupedConv2d.from_dense(module, mask)
    for shape in ((2, 4, 9, 9), (2, 4, 5, 12), (1, 4, 9, 9)):
        x = torch.randn(shape)
        torch.testing.assert_close(small(x), masked(module, mask, x), rtol=1e-4, atol=1e-5)
