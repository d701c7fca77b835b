from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from secateur.kernels.modules.conv import SparseConv
from secateur.kernels.modules.forms import FORMS
from secateur.kernels.modules.linear import SparseLinear

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
