from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur.engine.dependencies import Order, record, trace
from secateur.engine.dependencies.ledger import Ledger
from secateur.engine.info import ModelInfo
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
    assert channels.inputs["last"].tolist() == channels.kept()["norm.weight"][0].tolist()


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
        (lambda x: x.mean(1, keepdim=True).expand(-1, 4, -1, -1), "mean"),
        (lambda x: x.roll(1, 1), "roll"),
        (lambda x: x[:, [2, 0, 1, 3]], "index"),
        (lambda x: x[:, :3].repeat(1, 2, 1, 1)[:, :4], "cut at a fixed place"),
        (lambda x: x.split([1, 3], 1)[1].repeat(1, 2, 1, 1)[:, :4], "cut at a fixed place"),
        (lambda x: x + torch.arange(4.0)[:, None, None], "other sizes in aten.add"),
        (lambda x: nn.functional.group_norm(x, 2), "group_norm"),
        (lambda x: x.cumsum(1), "cumsum"),
        (lambda x: x.sort(1)[0], "not followed: aten.sort"),
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


@pytest.mark.parametrize(
    ("function", "stays_zero"),
    [
        (lambda x: x.pow(2), True),
        (lambda x: x.flip(1), True),
        (lambda x: x[:, :4], True),
        (lambda x: x + torch.full((4, 1, 1), 0.0), True),
        (lambda x: 1 / (x + 2), False),
        (lambda x: x.exp(), False),
    ],
)
def test_more_is_followed_than_zeros(function, stays_zero):
    net = Net(lambda s, x: s.last(function(s.first(x))), first=conv(3, 4), last=conv(4, 2))
    silence(net.first, 1)
    channels = trace(opened(net, 3, 8, 8))
    assert channels.fixed("first") is None
    assert needed(channels, "first") == ([0, 2, 3] if stays_zero else [0, 1, 2, 3])


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


def test_a_view_is_a_flatten():
    layers = {"first": conv(3, 4), "last": nn.Linear(16, 2)}
    net = Net(lambda s, x: s.last(s.first(x).view(x.size(0), -1)), **layers)
    silence(net.first, 2)
    assert needed(trace(opened(net, 3, 2, 2)), "first") == [0, 1, 3]


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


def test_shared_weights_are_one():
    net = Net(lambda s, x: s.last(s.two(s.one(x))), one=conv(4, 4), two=conv(4, 4), last=conv(4, 2))
    net.two.weight = net.one.weight
    silence(net.one, 1)
    channels = trace(opened(net, 4, 4, 4))
    assert channels.fixed("one") == channels.fixed("two") == "it meets the model's input"
    assert needed(channels, "two") == [0, 1, 2, 3]


def test_a_tied_table_shrinks_with_its_layer():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(9, 6), nn.Linear(6, 9, bias=False)
            self.head.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.table(x).relu())

    net = Tied()
    with torch.no_grad():
        net.table.weight[:, [1, 4]] = 0
    inputs = lambda batch: ((torch.arange(batch * 3).reshape(batch, 3),), {})  # noqa: E731
    channels = trace(from_module(net, address="test:tied", name="tied", inputs=inputs))
    kept = [True, False, True, True, False, True]
    assert channels.kept()["table.weight"][1].tolist() == kept
    assert channels.kept()["head.weight"][1].tolist() == kept
    assert "looked up in aten.embedding" in (channels.fixed("head") or "")


def test_groups_go_as_a_whole():
    net = Net(
        lambda s, x: s.last(s.grouped(s.first(x))),
        first=conv(3, 4),
        grouped=conv(4, 6, groups=2),
        last=conv(6, 2),
    )
    silence(net.first, 2)
    channels = trace(opened(net, 3, 4, 4))
    assert channels.fixed("first") is None
    assert channels.partners("first") == ("grouped",)
    assert channels.units("first")[[0, 2]].tolist() == channels.units("grouped")[[0, 3]].tolist()
    assert needed(channels, "first") == [0, 1, 2, 3]
    silence(net.first, 3)
    silence(net.grouped, 3, 4, 5)
    channels = trace(opened(net, 3, 4, 4))
    assert needed(channels, "first") == [0, 1]
    assert needed(channels, "grouped") == [0, 1, 2]


def test_a_shuffle_removes_the_same_place_of_every_group():
    def forward(s, x):
        y = s.first(x).view(1, 2, 3, 4, 4).transpose(1, 2).reshape(1, 6, 4, 4)
        return s.last(y)

    net = Net(forward, first=conv(3, 6), last=conv(6, 2))
    silence(net.first, 1)
    assert needed(trace(opened(net, 3, 4, 4)), "first") == [0, 1, 2, 3, 4, 5]
    silence(net.first, 4)
    channels = trace(opened(net, 3, 4, 4))
    assert needed(channels, "first") == [0, 2, 3, 5]
    assert channels.inputs["last"].tolist() == [True, True, False, False, True, True]


def test_halves_lose_equally_many():
    def forward(s, x):
        one, two = s.first(x).chunk(2, dim=1)
        return s.left(one) + s.right(two)

    net = Net(forward, first=conv(3, 6), left=conv(3, 2), right=conv(3, 2))
    silence(net.first, 0)
    assert needed(trace(opened(net, 3, 4, 4)), "first") == [0, 1, 2, 3, 4, 5]
    silence(net.first, 3)
    assert needed(trace(opened(net, 3, 4, 4)), "first") == [1, 2, 4, 5]


def test_pixels_that_were_channels():
    net = Net(lambda s, x: s.last(nn.functional.pixel_shuffle(s.first(x), 2)),
              first=conv(3, 12), last=conv(3, 2))  # fmt: skip
    silence(net.first, 4, 5, 6)
    assert needed(trace(opened(net, 3, 4, 4)), "first") == list(range(12))
    silence(net.first, 7)
    assert needed(trace(opened(net, 3, 4, 4)), "first") == [0, 1, 2, 3, 8, 9, 10, 11]


def test_writing_in_place_is_seen_by_later_readers():
    def forward(s, x):
        y = s.first(x)
        y.add_(1)
        return s.last(y)

    net = Net(forward, first=conv(3, 4), last=conv(4, 2))
    silence(net.first, 1)
    assert needed(trace(opened(net, 3, 4, 4)), "first") == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "write",
    [
        lambda y: y.flatten(1).add_(1),
        lambda y: y[:, 1:2].add_(1),
        lambda y: y[:, 1:2].copy_(torch.ones_like(y[:, 1:2])),
        lambda y: y.permute(0, 2, 3, 1).add_(1),
    ],
)
def test_writing_into_a_view_is_seen_in_what_it_views(write):
    def forward(s, x):
        y = s.first(x)
        write(y)
        return s.last(y)

    net = Net(forward, first=conv(3, 4), last=conv(4, 2))
    silence(net.first, 1)
    assert needed(trace(opened(net, 3, 4, 4)), "first") == [0, 1, 2, 3]


def test_channels_written_into_an_empty_tensor():
    def forward(s, x):
        y = torch.empty(1, 4, 4, 4)
        y[:, :2] = s.left(x)
        y[:, 2:] = s.right(x)
        return s.last(y)

    net = Net(forward, left=conv(3, 2), right=conv(3, 2), last=conv(4, 2))
    channels = trace(opened(net, 3, 4, 4))
    assert channels.consumers("left") == channels.consumers("right") == ("last",)
    assert channels.partners("left") == ()


def test_something_always_stays():
    net = Net(lambda s, x: s.last(s.first(x)), first=conv(3, 4), last=conv(4, 2))
    silence(net.first, 0, 1, 2, 3)
    assert needed(trace(opened(net, 3, 4, 4)), "first") == [0]


def test_a_model_that_looks_at_its_data_is_followed_on_its_example():
    net = Net(lambda s, x: s.one(x) if x.sum() > 99 else s.two(x), one=conv(3, 4), two=conv(3, 4))
    channels = trace(opened(net, 3, 4, 4))
    assert channels.problem is None
    assert "only the way that its example takes" in channels.note
    assert "does not use it" in (channels.fixed("one") or "")
    assert channels.fixed("two") == "the model's output"
    assert channels.vectors("one") == ("one.bias",)
    assert channels.also("one") == ()


def test_a_channel_that_decides_the_way_stays():
    def forward(s, x):
        y = s.first(x)
        return s.last(y if y[0, 0, 0, 0] > 0 else y * 2)

    net = Net(forward, first=conv(3, 4), last=conv(4, 2))
    silence(net.first, 0)
    assert needed(trace(opened(net, 3, 4, 4)), "first") == [0, 1, 2, 3]


def test_an_endless_model_is_given_up_in_time():
    def forward(s, x):
        while True:
            try:
                x = s.one(x)
            except Exception:
                continue

    net = Net(forward, one=conv(3, 3))
    model = from_module(net, address="test:net", name="net", inputs=None)
    model.inputs = lambda batch: ((torch.ones(batch, 3, 4, 4),), {})
    channels = trace(model, seconds=0.3)
    assert channels.problem == "the trace took more than 0.3 seconds"
    assert channels.fixed("one") == channels.problem
    assert channels.order("one") == channels.problem


def test_a_slow_model_is_followed_without_its_arithmetic(monkeypatch):
    model = open_model("torchvision:vit_b_32")
    whole = trace(model)
    monkeypatch.setattr(record, "_HURRY", 0.0)
    quick = trace(model)
    for layer in model.info.prunable:
        path = layer.path
        assert quick.also(path) == whole.also(path)
        assert quick.fixed(path) == whole.fixed(path)
        assert quick.heads(path) == whole.heads(path)
    model = opened(Net(lambda s, x: s.one(x) if s.one(x).sum() > 0 else x, one=conv(3, 3)), 3, 4, 4)
    assert trace(model).problem == "the trace took more than 10 seconds"


def test_more_ids_than_fit_are_given_up(monkeypatch):
    net = Net(lambda s, x: s.last(s.first(x).flatten(1)), first=conv(3, 8), last=nn.Linear(128, 2))
    monkeypatch.setattr(record, "Ledger", lambda: Ledger(limit=100))
    channels = trace(opened(net, 3, 4, 4))
    assert channels.problem == "it has too many channels to follow"


def test_a_model_that_fails_says_so():
    net = Net(lambda s, x: s.one(x) + undefined, one=conv(3, 3))  # noqa: F821
    problem = trace(opened(net, 3, 4, 4)).problem or ""
    assert problem.startswith("it could not be followed: NameError")


def test_nothing_of_the_trace_is_left_on_the_model():
    model = open_model("sample:digits-vit")
    before = {name: tensor.clone() for name, tensor in model.state.items()}
    trace(model)
    assert torch.backends.mha.get_fastpath_enabled()
    assert all(torch.equal(model.state[name], tensor) for name, tensor in before.items())
    for module in model.runnable().modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_attention_of_torch_goes_by_heads():
    channels = trace(open_model("sample:digits-vit"))
    block = "blocks.0"
    rows, out = f"{block}.self_attention.in_proj_weight", f"{block}.self_attention.out_proj"
    assert channels.fixed(rows) is None
    assert channels.heads(out) == 12
    assert channels.consumers(rows) == (out,)
    units = channels.units(rows).reshape(3, 4, 12)
    assert (units == units[:1, :, :1]).all()
    assert len(np.unique(units)) == 4
    assert channels.branch(out)
    assert channels.branch(f"{block}.linear2")
    assert not channels.branch(f"{block}.linear1")
    assert channels.heads(f"{block}.linear2") is None
    assert "layer_norm" in (channels.fixed("patches") or "")


class Grouped(nn.Module):
    """Attention whose four heads of queries share two of keys, with rotated positions."""

    def __init__(self, explicit: bool) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(8, 16), nn.Linear(8, 8)
        self.v, self.o = nn.Linear(8, 8), nn.Linear(16, 8)
        self.explicit = explicit

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (m(x).unflatten(-1, (-1, 4)).transpose(1, 2) for m in (self.q, self.k, self.v))
        angles = torch.arange(x.shape[1])[:, None] * torch.tensor([1.0, 0.1, 1.0, 0.1])
        q, k = (self.rotated(y, angles) for y in (q, k))
        times = q.shape[1] // k.shape[1]
        k, v = (y.repeat_interleave(times, 1) for y in (k, v))
        if self.explicit:
            mixed = (q @ k.transpose(-2, -1) / 2).softmax(-1) @ v
        else:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.o(mixed.transpose(1, 2).flatten(2))

    @staticmethod
    def rotated(x: Tensor, angles: Tensor) -> Tensor:
        one, two = x.chunk(2, -1)
        return x * angles.cos() + torch.cat([-two, one], -1) * angles.sin()


@pytest.mark.parametrize("explicit", [True, False])
def test_queries_that_share_keys_go_together(explicit):
    channels = trace(opened(Grouped(explicit), 5, 8))
    assert channels.problem is None
    assert channels.heads("o") == 8
    units = channels.units("q")
    assert units.tolist() == [units[0]] * 8 + [units[8]] * 8
    assert channels.units("k").tolist() == channels.units("v").tolist()
    assert channels.units("k").tolist() == [units[0]] * 4 + [units[8]] * 4
    assert set(channels.also("q")) == {"k", "v", "o"}
    assert channels.branch("o")
    assert not channels.branch("v")


def test_resnets_branches_end_with_their_last_convolution():
    channels = trace(open_model("torchvision:resnet18"))
    assert channels.branch("layer2.0.conv2")
    assert channels.branch("layer2.0.downsample.0")
    assert not channels.branch("layer2.0.conv1")
    assert not channels.branch("conv1")


def reordered(model: Model, path: str, seed: int = 0) -> Order:
    """Put the input channels of a layer in a random order, exactly as `order` says."""
    order = trace(model).order(path)
    assert isinstance(order, Order), order
    random = np.random.default_rng(seed)
    runs = np.arange(order.size).reshape(-1, order.run)
    permutation = random.permuted(runs, axis=1).reshape(-1)
    names = dict(model.module.named_parameters()) | dict(model.module.named_buffers())
    with torch.no_grad():
        for name, dim, index in order.indices(permutation):
            if name in names:
                tensor = names[name]
                tensor.copy_(tensor.index_select(dim, torch.from_numpy(index)))
    return order


@pytest.mark.parametrize(
    ("address", "paths"),
    [
        ("sample:digits-resnet", ["layer1.0.conv1", "layer1.0.conv2", "layer3.0.conv2", "fc"]),
        ("sample:digits-vit", ["blocks.0.linear1", "blocks.1.linear2", "head",
                               "blocks.0.self_attention.in_proj_weight",
                               "blocks.2.self_attention.out_proj"]),
    ],
)  # fmt: skip
def test_an_order_changes_nothing(address, paths):
    model = open_model(address)
    args, _ = model.inputs(2)
    with torch.inference_mode():
        before = model.module(*args)
    for seed, path in enumerate(paths):
        state = {name: tensor.clone() for name, tensor in model.state.items()}
        order = reordered(model, path, seed)
        assert path in order.readers
        assert any(not torch.equal(model.state[n], state[n]) for n in state)
        with torch.inference_mode():
            torch.testing.assert_close(model.module(*args), before, rtol=1e-4, atol=1e-4)


def test_an_order_within_heads_and_behind_a_flatten():
    model = open_model("sample:digits-vit")
    order = trace(model).order("blocks.2.self_attention.out_proj")
    assert isinstance(order, Order)
    assert (order.size, order.run) == (48, 12)
    with pytest.raises(ValueError, match="within runs of 12"):
        list(order.indices(np.arange(48)[::-1]))
    net = Net(
        lambda s, x: s.last(s.norm(s.first(x)).flatten(1)),
        first=conv(3, 4),
        norm=nn.BatchNorm2d(4),
        last=nn.Linear(16, 2),
    )
    model = opened(net, 3, 2, 2)
    args, _ = model.inputs(1)
    before = net(*args)
    order = reordered(model, "last", 1)
    assert (order.size, order.run) == (4, 4)
    torch.testing.assert_close(net(*args), before)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: nn.functional.group_norm(x, 2), "group_norm"),
        (lambda x: torch.cat([x[:, :2].relu(), x[:, 2:]], 1), "apart from the others"),
        (lambda x: x + torch.arange(4.0)[:, None, None], "other sizes"),
        (lambda x: x.flip(1) + x, "apart|together"),
    ],
)
def test_an_order_that_would_not_be_exact_says_why(function, words):
    net = Net(lambda s, x: s.last(function(s.first(x))), first=conv(3, 4), last=conv(4, 2))
    order = trace(opened(net, 3, 2, 2)).order("last")
    assert isinstance(order, str)
    assert re.search(words, order)
    assert trace(opened(net, 3, 2, 2)).order("first") == "it meets the model's input"


def test_an_opened_model_says_what_hangs_together():
    info = open_model("sample:digits-vit").info
    out = info.layer("blocks.0.self_attention.out_proj")
    assert out.gemm is not None
    assert (out.gemm.head, out.branch) == (12, True)
    assert "layer_norm" in (out.fixed or "")
    assert info.layer("blocks.0.linear1").also == ("blocks.0.linear2",)
    assert info.layer("blocks.0.linear1").fixed is None
    assert ModelInfo.from_json(info.to_json()) == info


def test_an_unused_layer_says_so():
    net = Net(lambda s, x: s.used(x), used=conv(3, 4), spare=conv(3, 4))
    assert "does not use it" in (trace(opened(net, 3, 4, 4)).fixed("spare") or "")
