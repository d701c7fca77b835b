from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from secateur.kernels.compiled import csr_conv, pieces
from secateur.kernels.compiled.tile import Registers
from secateur.kernels.modules.conv import SparseConv
from secateur.kernels.products import scattered_conv
from secateur.tests.kernels.compiled.test_conv import PROCESSORS, WALKS, same


def pruned(layer: nn.Conv2d, density: float) -> SparseConv:
    layer.weight.mul_(torch.rand_like(layer.weight) < density)
    return SparseConv.from_dense(layer, "csr")


def plan_of(small: SparseConv, x: torch.Tensor) -> csr_conv.Plan | None:
    matrix = small.matrix_on_cpu(x)
    assert matrix is not None
    return small.scattered(matrix, small.padded(x))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), WALKS)
@pytest.mark.parametrize("size", [(15, 16), (9, 140), (40, 111)])
def test_images_of_any_size(size, kernel, stride, padding, dilation, bias, monkeypatch, poisoned):
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 19, kernel, stride, padding, dilation, bias=bias)
    with torch.no_grad():
        x = torch.randn(3, 5, *size)
        small = pruned(layer, 0.3)
        assert plan_of(small, x) is not None
        found = same(layer, small, x)
        monkeypatch.setattr(scattered_conv, "ready", lambda: False)
        other = SparseConv.from_dense(layer, "csr")
        assert plan_of(other, x) is None
        torch.testing.assert_close(other(x), found)


@pytest.mark.parametrize("form", ["csr", "ell", "bitmap", "nm"])
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_every_form_that_the_cpu_multiplies_as_csr(form, mode):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, padding=1, padding_mode=mode)
    with torch.no_grad():
        layer.weight.mul_(torch.arange(9).view(3, 3) % 2 == 0)
        layer.weight[:, ::2] = 0
        x = torch.randn(2, 4, 9, 11)
        settings = {"n": 2, "m": 4} if form == "nm" else {}
        if form == "nm":
            layer.weight.view(6, 9, 4)[..., 1:3] = 0
        small = SparseConv.from_dense(layer, form, **settings)
        assert plan_of(small, x) is not None
        torch.testing.assert_close(small(x), layer(x))


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("width", [4, 14, 17])
def test_registers_of_every_processor(processor, width, monkeypatch, poisoned):
    monkeypatch.setattr(csr_conv, "HOST", Registers.of(PROCESSORS[processor]))
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 7, 3, padding=1)
    with torch.no_grad():
        same(layer, pruned(layer, 0.5), torch.randn(2, 3, 5, width))


@settings(deadline=None, max_examples=30)
@given(
    images=st.integers(1, 3),
    channels=st.integers(1, 40),
    out=st.integers(1, 40),
    height=st.integers(4, 20),
    width=st.integers(4, 30),
    stride=st.integers(1, 3),
    density=st.floats(0, 1),
    tile=st.sampled_from([1, 1 << 12, 1 << 20]),
    threads=st.integers(1, 3),
)
def test_work_is_cut_and_shared_out_in_any_way(
    images, channels, out, height, width, stride, density, tile, threads
):
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, out, 3, stride, padding=1)
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(pieces, "_TILE", tile)
        patch.setattr(csr_conv, "_WORTH_A_THREAD", 1)
        torch.set_num_threads(threads)
        try:
            same(layer, pruned(layer, density), torch.randn(images, channels, height, width))
        finally:
            torch.set_num_threads(before)


def test_images_too_large_for_32_bits_go_through_patches(monkeypatch):
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        small, x = pruned(layer, 0.5), torch.randn(1, 3, 8, 8)
        monkeypatch.setattr(scattered_conv, "_MOST_ENTRIES", x[0].numel() - 1)
        assert plan_of(small, x) is None
        torch.testing.assert_close(small(x), layer(x))


def test_weights_that_change_are_read_anew():
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 20, 3, padding=1)
    x = torch.randn(1, 6, 12, 12)
    with torch.no_grad():
        small = pruned(layer, 0.2)
        first = small(x)
        small.values.mul_(2)
        assert small.bias is not None
        small.bias.add_(1)
        torch.testing.assert_close(small(x), 2 * first - layer.bias[:, None, None] + 1)
