"""Patterns whose kernels run where the scores lie, here through the host emulation."""

import shutil
from contextlib import nullcontext

import pytest
import torch
from emulate import emulated

from secateur.engine.gemm import Gemm
from secateur.engine.patterns import PATTERNS

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")


@pytest.mark.parametrize("shape", [(12, 20), (13, 37)])
@pytest.mark.parametrize("short", ["block:4x4", "block:3x8", "block:1x9"])
def test_blocks_are_summed_by_the_kernel_and_chosen_alike(short, shape):
    pattern, gemm = PATTERNS.parse(short), Gemm(shape)
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with emulated() as ran:
        pooled = pattern.pool(scores, gemm)
        assert ran == ["cells"]
        found = pattern.mask(scores, 0.6, gemm)
    torch.testing.assert_close(pooled, pattern.pool(scores, gemm))
    assert torch.equal(found, pattern.mask(scores, 0.6, gemm))


@pytest.mark.parametrize("device", [nullcontext, emulated])
@pytest.mark.parametrize("short", ["element", "block:4x4", "block:3x5", "group", "filter", "head"])
def test_units_pass_gradients_on_to_their_weights(short, device):
    """Schedules that learn thresholds need them, see DST."""
    pattern, gemm = PATTERNS.parse(short), Gemm((8, 12), head=4)
    weight = torch.randn(gemm.shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
    with device():
        units = pattern.pool(weight.abs(), gemm)
    assert units.requires_grad
    units.sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad.sign(), weight.detach().sign())


@pytest.mark.parametrize("short", ["element", "nm:2:4", "vector:8", "kernel:4", "group", "filter"])
def test_other_patterns_choose_alike_through_kernels(short):
    pattern, gemm = PATTERNS.parse(short), Gemm((8, 4, 3, 3), (3, 3))
    scores = torch.rand(gemm.shape, generator=torch.Generator().manual_seed(1))
    with emulated():
        found = pattern.mask(scores, 0.5, gemm)
    assert torch.equal(found, pattern.mask(scores, 0.5, gemm))
