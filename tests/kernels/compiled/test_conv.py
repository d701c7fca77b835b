from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.kernels import reference
from secateur.kernels.modules.conv import SparseConv
from secateur.kernels.products.grouped import cpu


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [
    ((3, 3), (1, 1), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (1, 1), (1, 1)),
    ((7, 7), (2, 2), (3, 3), (1, 1)),
    ((1, 5), (3, 2), (0, 6), (1, 3)),
    ((4, 3), (1, 3), (2, 0), (2, 2)),
    ((1, 1), (1, 1), (0, 0), (1, 1)),
])  # fmt: skip
@pytest.mark.parametrize("size", [(9, 140), (40, 111), (70, 107)])
def test_images_with_long_rows(
    size, kernel, stride, padding, dilation, bias, monkeypatch, poisoned
):
    torch.manual_seed(0)
    walk = {"stride": stride, "padding": padding, "dilation": dilation}
    layer = nn.Conv2d(5, 7, kernel, bias=bias, **walk)
    kept = torch.rand(layer.weight[0].shape) < 0.4
    kept[0, 0, 0] = True
    with torch.no_grad():
        layer.weight.mul_(kept)
        x = torch.randn(3, 5, *size)
        wanted = reference.convolution(layer.weight, x, layer.bias, **walk)
        small = SparseConv.from_dense(layer)
        assert small.plan(x).loops is not None
        for _ in range(2):
            found = small(x)
            assert found.is_contiguous()
            assert (found - wanted).norm() <= 1e-5 * wanted.norm()
        monkeypatch.setattr(cpu, "ready", lambda: False)
        other = SparseConv.from_dense(layer)
        assert other.plan(x).loops is None
        torch.testing.assert_close(other(x), found)


def test_pieces_are_shared_out_among_threads():
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 30, 3, padding=1)
    x = torch.randn(4, 64, 60, 60)
    with torch.no_grad():
        layer.weight[:, ::2] = 0
        found, wanted = SparseConv.from_dense(layer)(x), layer(x)
    assert (found - wanted).norm() <= 1e-5 * wanted.norm()
