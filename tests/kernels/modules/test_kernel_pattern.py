from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.kernels.modules.kernel_pattern import PatternConv2d

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
OPTIONS = [
    {"padding": 1},
    {"stride": 2, "padding": (0, 1), "bias": False},
    {"dilation": 2, "padding": 2, "padding_mode": "reflect"},
]
LIBRARY = torch.tensor([[1, 1, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0, 1, 0]], dtype=torch.bool)


def patterned(layout: str, out: int, channels: int) -> torch.Tensor:
    """A mask [out, channels * 9] whose kernels have one of two patterns, or none at all."""
    draw = torch.Generator().manual_seed(0)
    if layout == "filter":
        which = torch.arange(out).remainder(2)[:, None].expand(out, channels)
    elif layout == "channel":
        which = torch.arange(channels).remainder(2).expand(out, channels)
    else:
        which = torch.randint(2, (out, channels), generator=draw)
    mask = LIBRARY[which]
    if layout == "connectivity":
        mask = mask & (torch.rand(out, channels, 1, generator=draw) < 0.4)
        mask[1] = False
    return mask.flatten(1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("out", [5, 19])
@pytest.mark.parametrize("layout", ["filter", "channel", "kernel", "connectivity"])
def test_as_the_masked_convolution(device, options, out, layout):
    torch.manual_seed(0)
    module = nn.Conv2d(4, out, 3, **options).to(device).requires_grad_(False)
    mask = patterned(layout, out, 4).to(device)
    ours = PatternConv2d.from_dense(module, mask)
    module.weight.mul_(mask.view_as(module.weight))
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 4, 9, 8, device=device).to(memory_format=memory_format)
        torch.testing.assert_close(ours(x), module(x), rtol=1e-4, atol=1e-5)


def test_work_tells_what_is_multiplied():
    module = nn.Conv2d(6, 20, 3)
    work = {
        layout: PatternConv2d.from_dense(module, patterned(layout, 20, 6)).work
        for layout in ("filter", "channel", "kernel")
    }
    assert work["filter"] == work["channel"] == pytest.approx(4 / 9)
    assert len(PatternConv2d.from_dense(module, patterned("filter", 20, 6)).products) == 2
    assert work["kernel"] == pytest.approx(6 / 9)  # what either pattern keeps


def test_nothing_kept_leaves_the_bias():
    module = nn.Conv2d(3, 4, 3).requires_grad_(False)
    ours = PatternConv2d.from_dense(module, torch.zeros(4, 27, dtype=torch.bool))
    expected = module.bias[None, :, None, None].expand(2, 4, 3, 3)
    assert torch.equal(ours(torch.randn(2, 3, 5, 5)), expected)


def test_what_has_no_such_form_is_refused():
    with pytest.raises(ValueError, match="groups"):
        PatternConv2d.from_dense(nn.Conv2d(4, 4, 3, groups=2), torch.ones(4, 18).bool())
    with pytest.raises(ValueError, match=r"\[4, 36\]"):
        PatternConv2d.from_dense(nn.Conv2d(4, 4, 3), torch.ones(4, 9).bool())
