from __future__ import annotations

import torch
from torch import nn

from secateur.kernels.modules.conv import SparseConv
from secateur.kernels.modules.kernel_pattern import PatternConv2d
from secateur.kernels.modules.linear import SparseLinear
from secateur.kernels.modules.reduced import ReducedLayer
from secateur.kernels.modules.work import Work, multiplied, work


def columns(module: nn.Module, every: int) -> nn.Module:
    """Keeps one input column of so many."""
    with torch.no_grad():
        matrix = module.weight.flatten(1)
        matrix[:, torch.arange(matrix.shape[1]) % every != 0] = 0
    return module


def test_dense_layers_do_what_their_shapes_say():
    x = torch.randn(3, 8)
    assert work(nn.Linear(8, 4), (x,), {}) == Work(2 * 3 * 8 * 4, 4 * (3 * 8 + 3 * 4 + 32 + 4))
    conv, x = nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False), torch.randn(2, 4, 9, 9)
    assert work(conv, (x,), {}) == Work(
        2 * 2 * 16 * 6 * 2 * 9, 4 * (x.numel() + 2 * 6 * 16 + conv.weight.numel())
    )


def test_grouped_forms_multiply_the_kept_columns_alone():
    linear = columns(nn.Linear(64, 32, bias=False), 4)
    form = SparseLinear.from_dense(linear, "grouped")
    found = work(form, (torch.randn(5, 64),), {})
    assert found.operations == 2 * 5 * 32 * 16
    assert found.bytes == 4 * (5 * 64 + 5 * 32 + 32 * 16) + form.kept.nbytes
    conv = columns(nn.Conv2d(8, 16, 3, padding=1, bias=False), 3)
    form = SparseConv.from_dense(conv)
    assert work(form, (torch.randn(2, 8, 5, 5),), {}).operations == 2 * 2 * 25 * 16 * 24


def test_scattered_forms_multiply_their_entries():
    torch.manual_seed(0)
    linear = nn.Linear(64, 32, bias=False)
    with torch.no_grad():
        linear.weight[torch.rand(32, 64) < 0.9] = 0
    form = SparseLinear.from_dense(linear, "csr")
    entries = int(linear.weight.count_nonzero())
    found = work(form, (torch.randn(7, 64),), {})
    assert found.operations == 2 * 7 * entries
    # A value and a column each, where the rows begin, and the order of the rows.
    assert found.bytes >= 4 * 7 * (64 + 32) + 8 * entries


def test_smaller_layers_and_sets_of_filters_count_what_is_inside():
    conv = nn.Conv2d(8, 16, 3, bias=False)
    with torch.no_grad():
        conv.weight[::2] = 0
        conv.weight[:, ::4] = 0
    reduced = ReducedLayer.from_dense(conv)
    assert multiplied(reduced) == 8 * 6 * 9
    x = torch.randn(1, 8, 6, 6)
    assert work(reduced, (x,), {}).operations == 2 * 16 * 8 * 6 * 9
    kept = torch.zeros(16, 72, dtype=torch.bool)
    kept[::2, ::3] = kept[1::2, ::6] = True
    sets = PatternConv2d.from_dense(nn.Conv2d(8, 16, 3), kept)
    assert multiplied(sets) == 8 * 24 + 8 * 12
    assert work(sets, (x,), {}).operations == 2 * 16 * multiplied(sets)


def test_a_model_is_the_sum_of_its_layers():
    first, second = nn.Linear(8, 16), nn.Linear(16, 4)
    model, x = nn.Sequential(first, nn.ReLU(), second), torch.randn(3, 8)
    parts = work(first, (x,), {}) + work(second, (first(x).detach(),), {})
    assert work(model, (x,), {}) == parts
    assert work(nn.ReLU(), (x,), {}) == Work(0, 0)
    assert not any(module._forward_hooks for module in model.modules())
