from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur.engine.dependencies import trace
from secateur.engine.models import open_model
from secateur.engine.models.build import from_module
from secateur.engine.models.model import Model


def opened(module: nn.Module, *shape: int) -> Model:
    def inputs(batch: int) -> tuple[tuple[Tensor], dict[str, object]]:
        return (torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1)),), {}

    return from_module(module, address="test:net", name="net", inputs=inputs)


class Net(nn.Module):
    """Layers by keyword and a forward given as a function of them and the input."""

    def __init__(self, forward, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def conv(inputs: int, outputs: int, kernel: int = 1, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, **options)


def needed(channels, path: str) -> list[int]:
    return np.flatnonzero(channels.outputs[path]).tolist()


def silence(layer, *rows: int) -> None:
    """Make outputs of a layer or entries of a norm exactly zero."""
    with torch.no_grad():
        layer.weight[list(rows)] = 0
        if layer.bias is not None:
            layer.bias[list(rows)] = 0


def test_resnet18_ties_what_is_added():
    channels = trace(open_model("torchvision:resnet18"))
    assert channels.problem is None
    assert channels.vectors("layer1.0.conv1") == ("layer1.0.bn1.weight", "layer1.0.bn1.bias")
    assert channels.consumers("layer1.0.conv1") == ("layer1.0.conv2",)
    assert channels.also("layer1.0.conv1") == ("layer1.0.conv2",)
    assert set(channels.partners("conv1")) == {"layer1.0.conv2", "layer1.1.conv2"}
    assert "layer2.0.downsample.0" in channels.also("conv1")
    assert channels.fixed("layer1.0.conv1") is None
    assert channels.fixed("fc") == "the model's output"
    assert channels.vectors("fc") == ("fc.bias",)


def test_mobilenet_depthwise_takes_its_norm_along():
    channels = trace(open_model("torchvision:mobilenet_v2"))
    expand = "features.2.conv.0.0"
    assert channels.vectors(expand) == (
        "features.2.conv.0.1.weight",
        "features.2.conv.0.1.bias",
        "features.2.conv.1.1.weight",
        "features.2.conv.1.1.bias",
    )
    assert channels.partners(expand) == ("features.2.conv.1.0",)
    assert channels.consumers(expand) == ("features.2.conv.2",)


def test_zero_rows_are_not_needed_until_a_norm_shifts_them():
    net = Net(
        lambda s, x: s.last(s.norm(s.first(x)).relu()),
        first=conv(3, 6, 3),
        norm=nn.BatchNorm2d(6),
        last=conv(6, 2),
    )
    nn.init.constant_(net.norm.bias, 0.5)
    silence(net.first, 1, 4)
    model = opened(net, 3, 8, 8)
    assert needed(trace(model), "first") == [0, 1, 2, 3, 4, 5]
    silence(net.norm, 4)
    channels = trace(model)
    assert needed(channels, "first") == [0, 1, 2, 3, 5]
    assert channels.inputs["last"].tolist() == channels.norms["norm"].tolist()


def test_a_channel_that_no_reader_weighs_is_not_needed():
    net = Net(lambda s, x: s.last(s.first(x).sigmoid()), first=conv(3, 4), last=conv(4, 2, 3))
    with torch.no_grad():
        net.last.weight[:, 2] = 0
    assert needed(trace(opened(net, 3, 8, 8)), "first") == [0, 1, 3]


@pytest.mark.parametrize(
    ("function", "stays_zero"),
    [
        (torch.relu, True),
        (nn.functional.gelu, True),
        (nn.functional.silu, True),
        (nn.functional.hardswish, True),
        (torch.tanh, True),
        (lambda x: nn.functional.max_pool2d(x, 2), True),
        (lambda x: nn.functional.adaptive_avg_pool2d(x, 3), True),
        (lambda x: nn.functional.dropout(x, 0.5, False), True),
        (lambda x: nn.functional.pad(x, (1, 1)), True),
        (lambda x: nn.functional.interpolate(x, scale_factor=2), True),
        (lambda x: x * 3, True),
        (lambda x: x / 2, True),
        (lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2), True),
        (torch.sigmoid, False),
        (nn.functional.hardsigmoid, False),
        (nn.functional.softplus, False),
        (lambda x: x + 1, False),
        (lambda x: nn.functional.pad(x, (1, 1), value=1.0), False),
    ],
)
def test_functions_that_keep_zero(function, stays_zero):
    net = Net(lambda s, x: s.last(function(s.first(x))), first=conv(3, 4), last=conv(4, 2))
    silence(net.first, 1)
    channels = trace(opened(net, 3, 8, 8))
    assert channels.fixed("first") is None
    assert needed(channels, "first") == ([0, 2, 3] if stays_zero else [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (lambda x: x.softmax(1), "softmax"),
        (lambda x: x.view(-1, 4, 64).view(-1, 4, 8, 8), "view"),
        (lambda x: x.flip(1), "flip"),
        (lambda x: x[:, :4], "getitem"),
        (lambda x: x.pow(2), "pow"),
        (lambda x: 1 / x, "truediv"),
        (lambda x: nn.functional.pad(x, (0, 0, 0, 0, 0, 0)).cumsum(1), "cumsum"),
    ],
)
def test_what_is_not_followed_is_fixed_and_named(function, word):
    net = Net(lambda s, x: s.last(function(s.first(x))), first=conv(3, 4), last=conv(4, 2))
    silence(net.first, 1)
    channels = trace(opened(net, 3, 8, 8))
    reason = channels.fixed("first")
    assert reason is not None
    assert word in reason
    assert needed(channels, "first") == [0, 1, 2, 3]
    assert channels.also("first") == ()


def test_addition_unites_and_needs_both_to_be_zero():
    net = Net(
        lambda s, x: s.last(s.left(x) + s.right(x)),
        left=conv(3, 4),
        right=conv(3, 4),
        last=conv(4, 2),
    )
    silence(net.left, 0, 1)
    silence(net.right, 1, 2)
    channels = trace(opened(net, 3, 8, 8))
    assert needed(channels, "left") == needed(channels, "right") == [0, 2, 3]
    assert channels.partners("left") == ("right",)


def test_squeeze_and_excitation_needs_only_one_zero():
    def forward(s, x):
        y = s.first(x)
        gate = s.up(s.down(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return s.last(y * gate)

    net = Net(forward, first=conv(3, 4), down=conv(4, 2), up=conv(2, 4), last=conv(4, 2))
    silence(net.first, 3)
    channels = trace(opened(net, 3, 8, 8))
    assert needed(channels, "first") == needed(channels, "up") == [0, 1, 2]
    assert set(channels.consumers("first")) == {"down", "last"}


def test_concatenation_keeps_offsets():
    net = Net(
        lambda s, x: s.last(torch.cat([s.left(x), s.right(x)], 1)),
        left=conv(3, 2),
        right=conv(3, 3),
        last=conv(5, 2),
    )
    silence(net.right, 1)
    channels = trace(opened(net, 3, 8, 8))
    assert needed(channels, "left") == [0, 1]
    assert needed(channels, "right") == [0, 2]
    assert channels.inputs["last"].tolist() == [True, True, True, False, True]


def test_flatten_multiplies_positions():
    net = Net(
        lambda s, x: s.last(torch.flatten(s.first(x), 1)), first=conv(3, 4), last=nn.Linear(16, 2)
    )
    silence(net.first, 2)
    channels = trace(opened(net, 3, 2, 2))
    assert needed(channels, "first") == [0, 1, 3]
    assert channels.inputs["last"].tolist() == [True] * 8 + [False] * 4 + [True] * 4


def test_open_view_is_a_flatten_and_a_written_size_is_not():
    layers = {"first": conv(3, 4), "last": nn.Linear(16, 2)}
    net = Net(lambda s, x: s.last(s.first(x).view(x.size(0), -1)), **layers)
    silence(net.first, 2)
    assert needed(trace(opened(net, 3, 2, 2)), "first") == [0, 1, 3]
    net = Net(lambda s, x: s.last(s.first(x).view(-1, 16)), **layers)
    assert "view" in (trace(opened(net, 3, 2, 2)).fixed("first") or "")


def test_mlp_behind_a_layer_norm():
    net = Net(
        lambda s, x: x + s.down(nn.functional.gelu(s.up(s.norm(x)))),
        norm=nn.LayerNorm(6),
        up=nn.Linear(6, 8),
        down=nn.Linear(8, 6),
    )
    silence(net.up, 5)
    channels = trace(opened(net, 7, 6))
    assert needed(channels, "up") == [0, 1, 2, 3, 4, 6, 7]
    assert channels.vectors("up") == ("up.bias",)
    assert channels.fixed("down") is not None


def test_a_layer_called_twice_ties_its_inputs():
    net = Net(lambda s, x: s.last(s.twice(s.twice(x))), twice=conv(3, 3), last=conv(3, 2))
    silence(net.twice, 1)
    assert needed(trace(opened(net, 3, 4, 4)), "twice") == [0, 1, 2]


def test_shared_weights_stay():
    net = Net(lambda s, x: s.last(s.two(s.one(x))), one=conv(4, 4), two=conv(4, 4), last=conv(4, 2))
    net.two.weight = net.one.weight
    silence(net.one, 1)
    channels = trace(opened(net, 4, 4, 4))
    assert "shared" in (channels.fixed("one") or "")
    assert needed(channels, "two") == [0, 1, 2, 3]


def test_groups_stay_and_say_so():
    net = Net(
        lambda s, x: s.last(s.grouped(s.first(x))),
        first=conv(3, 4),
        grouped=conv(4, 6, groups=2),
        last=conv(6, 2),
    )
    channels = trace(opened(net, 3, 4, 4))
    assert "groups" in (channels.fixed("first") or "")
    assert "groups" in (channels.fixed("grouped") or "")


def test_writing_in_place_is_seen_by_later_readers():
    def forward(s, x):
        y = s.first(x)
        y.add_(1)
        return s.last(y)

    net = Net(forward, first=conv(3, 4), last=conv(4, 2))
    silence(net.first, 1)
    assert needed(trace(opened(net, 3, 4, 4)), "first") == [0, 1, 2, 3]


def test_something_always_stays():
    net = Net(lambda s, x: s.last(s.first(x)), first=conv(3, 4), last=conv(4, 2))
    silence(net.first, 0, 1, 2, 3)
    assert needed(trace(opened(net, 3, 4, 4)), "first") == [0]


def test_a_model_that_looks_at_its_data_is_fixed_with_the_reason():
    net = Net(lambda s, x: s.one(x) if x.sum() > 0 else s.two(x), one=conv(3, 4), two=conv(3, 4))
    channels = trace(opened(net, 3, 4, 4))
    assert "cannot be traced" in (channels.fixed("one") or "")
    assert channels.vectors("one") == ("one.bias",)
    assert channels.also("one") == ()


def test_layers_inside_what_is_not_followed():
    channels = trace(open_model("torchvision:vit_b_16"))
    block = "encoder.layers.encoder_layer_0"
    assert "MultiheadAttention" in (channels.fixed(f"{block}.self_attention.in_proj_weight") or "")
    assert channels.vectors(f"{block}.self_attention.in_proj_weight") == (
        f"{block}.self_attention.in_proj_bias",
    )
    assert channels.fixed(f"{block}.mlp.0") is None
    assert channels.consumers(f"{block}.mlp.0") == (f"{block}.mlp.3",)


def test_an_unused_layer_says_so():
    net = Net(lambda s, x: s.used(x), used=conv(3, 4), spare=conv(3, 4))
    assert "does not use it" in (trace(opened(net, 3, 4, 4)).fixed("spare") or "")
