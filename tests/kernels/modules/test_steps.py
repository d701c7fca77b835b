from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.kernels.dispatch.timing import time_steps
from secateur.kernels.modules.conv import SparseConv
from secateur.kernels.modules.kernel_pattern import PatternConv2d
from secateur.kernels.modules.linear import SparseLinear
from secateur.kernels.modules.reduced import ReducedLayer
from secateur.kernels.modules.steps import steps
from secateur.kernels.products import scattered_conv
from secateur.kernels.products.grouped import cpu


def pruned(module: nn.Module) -> nn.Module:
    """Without every other column."""
    with torch.no_grad():
        flat = module.weight.flatten(1)
        flat[:, ::2] = 0
        module.weight.copy_(flat.view_as(module.weight))
    return module


def conv(bias: bool = True) -> nn.Module:
    return pruned(nn.Conv2d(8, 16, 3, padding=1, bias=bias))


def sets() -> PatternConv2d:
    kept = torch.zeros(16, 72, dtype=torch.bool)
    kept[::2, ::3] = kept[1::2, ::6] = True
    return PatternConv2d.from_dense(nn.Conv2d(8, 16, 3, padding=1), kept)


def fewer() -> ReducedLayer:
    layer = nn.Conv2d(8, 16, 3)
    with torch.no_grad():
        layer.weight[::2] = 0
        layer.weight[:, ::2] = 0
    return ReducedLayer.from_dense(layer)


IMAGE = (2, 8, 6, 6)
CASES = [
    (nn.Linear(8, 4), (3, 8), ["multiply"]),
    (nn.Conv2d(8, 4, 3), IMAGE, ["multiply"]),
    (SparseLinear.from_dense(pruned(nn.Linear(8, 4)), "grouped"), (3, 8), ["select", "multiply"]),
    (SparseLinear.from_dense(pruned(nn.Linear(8, 4)), "csr"), (3, 8), ["multiply"]),
    (SparseConv.from_dense(conv(), "grouped"), IMAGE, ["gather", "multiply", "reshape"]),
    (SparseConv.from_dense(conv(False), "grouped"), (1, 8, 6, 6), ["gather", "multiply"]),
    (SparseConv.from_dense(conv(), "csr"), IMAGE, ["im2col", "multiply"]),
    (fewer(), IMAGE, ["select", "multiply", "reshape"]),
    (sets(), IMAGE, ["gather", "multiply", "reshape", "gather", "multiply", "reshape", "reshape"]),
]


@pytest.fixture
def no_loops(monkeypatch):
    """As where loops cannot be compiled: what is gathered is a step of its own there."""
    monkeypatch.setattr(cpu, "ready", lambda: False)
    monkeypatch.setattr(scattered_conv, "ready", lambda: False)


@pytest.mark.parametrize(
    "module",
    [SparseConv.from_dense(conv(), "grouped"), SparseConv.from_dense(conv(), "csr"), sets()],
)
def test_compiled_loops_gather_inside_the_product(module):
    found = steps(module, torch.randn(2, 8, 6, 7))
    assert {name for name, _ in found} - {"reshape"} == {"multiply"}


@pytest.mark.usefixtures("no_loops")
@pytest.mark.parametrize(("module", "shape", "names"), CASES)
def test_each_form_is_cut_into_its_steps(module, shape, names):
    found = steps(module.eval(), torch.randn(shape))
    assert [name for name, _ in found] == names
    with torch.inference_mode():
        for _, call in found:
            call()


@pytest.mark.usefixtures("no_loops")
def test_steps_of_one_name_are_summed():
    times = time_steps(steps(sets(), torch.randn(IMAGE)), seconds=0.01)
    assert list(times) == ["gather", "multiply", "reshape"]
    assert all(ms > 0 for ms in times.values())


@pytest.mark.usefixtures("no_loops")
def test_the_steps_are_those_of_the_whole():
    """What the last step leaves is the form's output, where it can be seen."""
    linear = SparseLinear.from_dense(pruned(nn.Linear(8, 4)), "grouped")
    x = torch.randn(3, 8)
    torch.testing.assert_close(steps(linear, x)[-1][1](), linear(x))
    patched, x = SparseConv.from_dense(conv(), "csr"), torch.randn(IMAGE)
    y = steps(patched, x)[-1][1]()
    torch.testing.assert_close(y.unflatten(2, (6, 6)), patched(x))
    small, x = fewer(), torch.randn(IMAGE)
    torch.testing.assert_close(steps(small, x)[-1][1](), small(x))
