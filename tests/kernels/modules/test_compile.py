from __future__ import annotations

import copy

import pytest
import torch
from conv1d import Conv1D
from torch import nn

from secateur.kernels.modules.conv import SparseConv
from secateur.kernels.modules.forms import FORMS
from secateur.kernels.modules.kernel_pattern import PatternConv2d
from secateur.kernels.modules.linear import SparseLinear
from secateur.kernels.modules.reduced import ReducedLayer

LINEAR_FORMS = [name for name in FORMS if name != "two_four"]


def model(form: str, *, trainable: bool = True) -> nn.Module:
    """Two sparse layers with a dense one between."""
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Linear(16, 8)
    with torch.no_grad():
        for layer in (conv, linear):
            matrix = layer.weight.view(8, -1)
            matrix[:, 2::4] = matrix[:, 3::4] = 0
    settings = {"block": 4} if form == "bsr" else {}
    return nn.Sequential(
        SparseConv.from_dense(conv, form, trainable=trainable, **settings),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((1, 2)),
        nn.Flatten(),
        SparseLinear.from_dense(linear, form, trainable=trainable, **settings),
    )


@pytest.mark.parametrize("form", LINEAR_FORMS)
def test_compile_sees_through_forward_and_backward(form):
    eager = model(form)
    whole = torch.compile(copy.deepcopy(eager), backend="aot_eager", fullgraph=True)
    for batch in (2, 3):
        x = torch.randn(batch, 3, 9, 9)
        first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
        eager.zero_grad()
        whole.zero_grad()
        y, z = eager(first), whole(second)
        y.square().sum().backward()
        z.square().sum().backward()
        torch.testing.assert_close(z, y)
        torch.testing.assert_close(second.grad, first.grad)
        for one, other in zip(whole.parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("form", LINEAR_FORMS)
def test_export_keeps_the_operators(form):
    plain = model(form, trainable=False).eval()
    x = torch.randn(2, 3, 9, 9)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(plain, (x,), dynamic_shapes=({0: batch},))
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    wanted = {f"secateur.{form}_linear.default"}
    assert names >= (wanted | {"secateur.grouped_conv.default"} if form == "grouped" else wanted)
    for other in (x, torch.randn(5, 3, 9, 9)):
        torch.testing.assert_close(program.module()(other), plain(other))


def layers() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """The other kinds of layers, sparse, and the shape of an input."""
    torch.manual_seed(0)
    mask = (torch.arange(36) % 2 == 0).expand(6, 36).clone()
    mask[::3] = ~mask[::3]
    sizes = {1: (nn.Conv1d, (4, 11)), 2: (nn.Conv2d, (4, 8, 7)), 3: (nn.Conv3d, (4, 4, 5, 3))}
    found: dict[str, tuple[nn.Module, tuple[int, ...]]] = {}
    for dims, (kind, shape) in sizes.items():
        dense = kind(4, 6, 3, padding=1, stride=2)
        kept = torch.rand(6, 4 * 3**dims) < 0.4
        for form in ("grouped", "csr"):
            sparse = SparseConv.from_dense(dense, form, kept, trainable=True)
            found[f"{form} {dims}d"] = sparse, shape
    reflecting = nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect")
    found["reflect"] = SparseConv.from_dense(reflecting, mask=mask, trainable=True), (4, 6, 5)
    found["Conv1D"] = SparseLinear.from_dense(Conv1D(6, 8), "csr", trainable=True), (8,)
    found["patterns"] = PatternConv2d.from_dense(nn.Conv2d(4, 6, 3), mask), (4, 6, 5)
    gone = nn.Conv2d(4, 6, 3)
    with torch.no_grad():
        gone.weight[2] = gone.weight[:, 1] = 0
    found["reduced"] = ReducedLayer.from_dense(gone), (4, 6, 5)
    return found


@pytest.mark.parametrize("kind", layers())
def test_every_kind_of_layer_is_compiled_whole_and_exported(kind):
    layer, shape = layers()[kind]
    torch.compiler.reset()
    whole = torch.compile(copy.deepcopy(layer), backend="aot_eager", fullgraph=True)
    x = torch.randn(2, *shape)
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    layer(first).square().sum().backward()
    whole(second).square().sum().backward()
    torch.testing.assert_close(second.grad, first.grad)
    for one, other in zip(whole.parameters(), layer.parameters(), strict=True):
        assert one.requires_grad == other.requires_grad
        torch.testing.assert_close(one.grad, other.grad)
    layer.requires_grad_(False)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},))
    other = torch.randn(5, *shape)
    torch.testing.assert_close(program.module()(other), layer(other))
