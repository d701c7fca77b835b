from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from secateur.kernels import reference
from secateur.kernels.compiled import conv, pieces
from secateur.kernels.compiled.tile import Registers
from secateur.kernels.modules.conv import SparseConv
from secateur.kernels.products.grouped import cpu

WALKS = [
    ((3, 3), (1, 1), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (1, 1), (1, 1)),
    ((7, 7), (2, 2), (3, 3), (1, 1)),
    ((1, 5), (3, 2), (0, 6), (1, 3)),
    ((4, 3), (1, 3), (2, 0), (2, 2)),
    ((1, 1), (1, 1), (0, 0), (1, 1)),
    ((2, 2), (2, 2), (0, 0), (1, 1)),
]
PROCESSORS = {
    "AVX-512": {"sse2": True, "avx": True, "avx512f": True},
    "AVX": {"sse2": True, "avx": True, "avx512f": False},
    "SSE": {"sse2": True},
    "Arm": {"neon": True},
}


def same(layer: nn.Conv2d, small: SparseConv, x: torch.Tensor) -> torch.Tensor:
    wanted = reference.convolution(
        layer.weight,
        x,
        layer.bias,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
    )
    found = small(x)
    assert found.is_contiguous()
    assert (found - wanted).norm() <= 1e-5 * wanted.norm()
    return found


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), WALKS)
@pytest.mark.parametrize("size", [(15, 16), (9, 140), (40, 111)])
def test_images_of_any_size(size, kernel, stride, padding, dilation, bias, monkeypatch, poisoned):
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 7, kernel, stride, padding, dilation, bias=bias)
    kept = torch.rand(layer.weight[0].shape) < 0.4
    kept[0, 0, 0] = True
    with torch.no_grad():
        layer.weight.mul_(kept)
        x = torch.randn(3, 5, *size)
        small = SparseConv.from_dense(layer)
        assert small.plan(x).loops is not None
        found = same(layer, small, x)
        monkeypatch.setattr(cpu, "ready", lambda: False)
        other = SparseConv.from_dense(layer)
        assert other.plan(x).loops is None
        torch.testing.assert_close(other(x), found)


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("width", [4, 14, 17])
def test_registers_of_every_processor(processor, width, monkeypatch, poisoned):
    """This one's code for other sizes of vectors is slower, and right all the same."""
    registers = Registers.of(PROCESSORS[processor])
    monkeypatch.setattr(conv, "HOST", registers)
    torch.manual_seed(0)
    for out in (registers.lanes - 1, 4 * registers.lanes + 5):
        layer = nn.Conv2d(3, out, 3, padding=1)
        with torch.no_grad():
            layer.weight.mul_(torch.rand(3, 3, 3) < 0.5)
            same(layer, SparseConv.from_dense(layer), torch.randn(2, 3, 5, width))


@settings(deadline=None, max_examples=30)
@given(
    images=st.integers(1, 3),
    channels=st.integers(1, 70),
    out=st.integers(1, 70),
    height=st.integers(4, 20),
    width=st.integers(4, 30),
    density=st.floats(0, 1),
    tile=st.sampled_from([1, 1 << 12, 1 << 20]),
    threads=st.integers(1, 3),
)
def test_work_is_cut_and_shared_out_in_any_way(
    images, channels, out, height, width, density, tile, threads
):
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, out, 3, padding=1)
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(pieces, "_TILE", tile)
        patch.setattr(conv, "_WORTH_A_THREAD", 1)
        torch.set_num_threads(threads)
        try:
            layer.weight.mul_(torch.rand(channels, 3, 3) < density)
            same(layer, SparseConv.from_dense(layer), torch.randn(images, channels, height, width))
        finally:
            torch.set_num_threads(before)


def test_weights_that_change_are_read_anew():
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 40, 3, padding=1)
    x = torch.randn(1, 6, 12, 12)
    small = SparseConv.from_dense(layer, mask=torch.rand(6 * 9).lt(0.5).expand(40, -1))
    with torch.no_grad():
        first = small(x)
        small.values.mul_(2)
        assert small.bias is not None
        small.bias.add_(1)
        torch.testing.assert_close(small(x), 2 * first - layer.bias[:, None, None] + 1)
