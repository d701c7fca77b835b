"""Training in every form: the gradients of the dense layer in fp64, without its size."""

from __future__ import annotations

import pytest
import torch
from doubles import TOLERANCE, drawn, near
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from secateur.kernels.modules.conv import SparseConv
from secateur.kernels.modules.forms import FORMS, pack
from secateur.kernels.modules.linear import SparseLinear
from secateur.kernels.modules.operators import LINEAR
from secateur.kernels.selection.select import keep_n_of_m

LEARNING = [name for name, form in FORMS.items() if form.learns]
# Relative to the norm; sums are in fp32 and rounded once.
# (out, in, samples): single entries, edges of blocks and tiles, more samples than one tile takes.
SHAPES = [(1, 1, 1), (13, 37, 3), (20, 136, 17), (9, 5, 0)]


def kept(form: str, out: int, ins: int, density: float) -> torch.Tensor:
    """A mask that the form can store; its second row is empty unless it is full."""
    mask = torch.rand(out, ins, generator=torch.Generator().manual_seed(1)) < density
    if density < 1:
        mask[1:2] = False
        if form == "nm":
            mask &= keep_n_of_m(mask.float(), 2, 4)
    return mask


def settings(form: str, density: float) -> dict[str, int]:
    full = {"nm": {"n": 4, "m": 4}} if density == 1 else {}
    return {"bsr": {"block": 4}, **full}.get(form, {})


def learning(form: str, mask: torch.Tensor) -> torch.Tensor:
    """What has a gradient: all of the blocks and columns that hold anything, else the entries."""
    if form == "grouped":
        return mask.any(dim=0).expand_as(mask)
    if form != "bsr":
        return mask
    out, ins = mask.shape
    padded = F.pad(mask, (0, -ins % 4, 0, -out % 4))
    blocks = padded.unflatten(0, (-1, 4)).unflatten(2, (-1, 4)).any(dim=3).any(dim=1)
    return blocks.repeat_interleave(4, 0).repeat_interleave(4, 1)[:out, :ins]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("form", LEARNING)
def test_the_gradients_are_those_of_the_dense_layer(form, dtype, density, backend):
    """With the structure kept beside the values and found anew, and inputs of another layout."""
    for out, ins, samples in SHAPES:
        mask = kept(form, out, ins, density)
        dense = (drawn(out, ins) * mask).to(dtype)
        packed = pack(form, dense, mask, **settings(form, density))
        x, grad = drawn(ins, samples, seed=2).to(dtype).t(), drawn(samples, 2 * out, seed=3)[:, ::2]
        weight = dense.double().requires_grad_()
        given = x.double().requires_grad_()
        F.linear(given, weight).backward(grad.to(dtype).double())
        by_values = torch.where(learning(form, mask), weight.grad, 0)
        wanted = pack(form, by_values, learning(form, mask), **settings(form, density)).values
        more = FORMS[form].transposes
        for indices in (packed.indices, packed.indices | (more(packed) if more else {})):
            on = [index.to(backend.device) for index in indices.values()]
            inputs = x.to(backend.device).detach().requires_grad_()
            values = packed.values.to(backend.device).detach().requires_grad_()
            with backend.active():
                y = LINEAR[form](inputs, values, None, on, list(packed.sizes))
                y.backward(grad.to(dtype).to(backend.device))
            near(y, dense.double().matmul(x.double().t()).t(), dtype)
            near(inputs.grad, given.grad, dtype)
            near(values.grad, wanted, dtype)


def largest_allocation(work) -> int:
    """Bytes of the largest piece of memory that torch asks for, inside of its operators too."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    events = record.profiler.kineto_results.events()
    return max(event.nbytes() for event in events if event.name() == "[memory]")


def thin(form: str, out: int, ins: int) -> torch.Tensor:
    """About a twentieth of a matrix, an eighth for N:M and for whole columns."""
    if form in {"nm", "grouped"}:
        return (torch.arange(ins) % 8 == 0).expand(out, ins)
    blocks = torch.rand(out // 4, ins // 4, generator=torch.Generator().manual_seed(0)) < 0.05
    return blocks.repeat_interleave(4, 0).repeat_interleave(4, 1)


@pytest.mark.parametrize("form", LEARNING)
@pytest.mark.parametrize("trainable", [True, False])
def test_a_training_step_asks_for_nothing_as_large_as_the_weight(form, trainable):
    out, ins = 136, 272
    dense = nn.Linear(ins, out)
    sizes = {"nm": {"n": 1, "m": 8}, "bsr": {"block": 4}}.get(form, {})
    layer = SparseLinear.from_dense(dense, form, thin(form, out, ins), trainable=trainable, **sizes)
    x = torch.randn(5, ins, requires_grad=True)
    y = layer(x).square().sum()
    whole = out * ins * 4
    assert largest_allocation(y.backward) < whole  # also where the structure is found on the way
    if trainable:
        assert largest_allocation(lambda: layer(x).square().sum().backward()) <= whole // 4


def test_the_measure_would_see_a_dense_gradient():
    dense, x = nn.Linear(272, 136), torch.randn(5, 272)
    assert largest_allocation(lambda: dense(x).sum().backward()) >= 136 * 272 * 4


@pytest.mark.parametrize("form", LEARNING)
def test_a_convolution_learns_without_the_weight_whole(form):
    dense = nn.Conv1d(34, 64, 8)
    sizes = {"nm": {"n": 1, "m": 8}, "bsr": {"block": 4}}.get(form, {})
    layer = SparseConv.from_dense(dense, form, thin(form, 64, 272), trainable=True, **sizes)
    x = torch.randn(1, 34, 15)
    assert largest_allocation(lambda: layer(x).sum().backward()) <= 64 * 272 * 4 // 4
