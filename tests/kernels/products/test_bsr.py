"""Products with blocks, and the blocks of a product, against double precision."""

from __future__ import annotations

import pytest
import torch
from doubles import TOLERANCE, drawn, near

from secateur.kernels import reference
from secateur.kernels.formats import BSR
from secateur.kernels.products import bsr
from secateur.kernels.products.bsr import bsr_linear, sampled_blocks

# Squares, and others, which the CPU cuts into squares.
BLOCKS = [(4, 4), (16, 16), (1, 1), (3, 5), (8, 4)]
SHAPES = [(1, 1, 1), (22, 34, 6), (40, 17, 19), (9, 5, 0), (0, 5, 2)]

pytestmark = pytest.mark.usefixtures("poisoned")


def blocks(out: int, ins: int, block: tuple[int, int], density: float) -> torch.Tensor:
    """A mask of whole blocks, cut at the edges; the second row of blocks is empty."""
    (high, wide), down, across = block, -(-out // block[0]), -(-ins // block[1])
    kept = torch.rand(down, across, generator=torch.Generator().manual_seed(1)) < density
    kept[1:2] &= density == 1
    return kept.repeat_interleave(high, 0).repeat_interleave(wide, 1)[:out, :ins]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_layer_and_the_gradient_of_its_blocks(backend, dtype, density, block):
    for out, ins, samples in SHAPES:
        mask = blocks(out, ins, block, density)
        dense = (drawn(out, ins) * mask).to(dtype)
        stored = BSR.from_mask(dense.to(backend.device), mask.to(backend.device), block=block)
        crow, columns = stored.indices32
        x = drawn(ins, samples, seed=2).to(dtype).t().to(backend.device)
        grad = drawn(samples, 2 * out, seed=3)[:, ::2].to(dtype).to(backend.device)
        bias = drawn(out, seed=4).to(dtype).to(backend.device)
        with backend.active():
            y = bsr_linear(crow, columns, stored.values, x, bias, out)
            found = sampled_blocks(crow, columns, block, grad.t(), x.t())
        near(y, reference.linear(dense, x.cpu(), bias.cpu()), dtype)
        wanted = torch.where(mask, grad.cpu().double().t() @ x.cpu().double(), 0)
        near(found, BSR.from_mask(wanted, mask, block=block).values, dtype)


def test_blocks_are_sampled_a_few_at_a_time(monkeypatch):
    stored = BSR.from_mask(drawn(22, 34), blocks(22, 34, (4, 4), 0.4), block=(4, 4))
    a, b = drawn(22, 6, seed=2), drawn(34, 6, seed=3)
    whole = sampled_blocks(*stored.indices32, (4, 4), a, b)
    monkeypatch.setattr(bsr, "_AT_ONCE", 100)
    assert torch.equal(sampled_blocks(*stored.indices32, (4, 4), a, b), whole)
