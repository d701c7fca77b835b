from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.library import opcheck

from secateur.kernels import reference
from secateur.kernels.modules.forms import FORMS, pack
from secateur.kernels.modules.operators import LINEAR, grouped_conv

FORMS_HERE = [name for name in FORMS if name != "two_four"]
# opcheck itself reads the gradient of what is no leaf.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}


def matrix(out: int = 12, ins: int = 20, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Zeros that all forms have something to do with: 2:4, scattered, a row and columns empty."""
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(out, ins, generator=generator)
    dense[:, 2::4] = dense[:, 3::4] = 0
    dense[torch.rand(out, ins, generator=generator) < 0.3] = 0
    dense[5] = 0
    return dense.to(dtype)


def parts(form: str, dense: torch.Tensor, **settings):
    """The arguments of a linear operator after x and the bias; the structure is trained."""
    packed = pack(form, dense, **settings)
    more = FORMS[form].transposes
    indices = packed.indices | (more(packed) if more else {})
    return packed.values, list(indices.values()), list(packed.sizes)


@pytest.mark.parametrize("form", FORMS_HERE)
@pytest.mark.parametrize("batch", [(3,), (2, 2)], ids=str)
def test_a_linear_operator_is_well_formed(form, batch):
    values, indices, sizes = parts(form, matrix(dtype=torch.float32))
    x = torch.randn(*batch, 20, requires_grad=True)
    bias = torch.randn(12, requires_grad=True)
    opcheck(LINEAR[form], (x, values.requires_grad_(), bias, indices, sizes))


@pytest.mark.parametrize("form", FORMS_HERE)
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)], ids=str)
def test_the_gradients_of_a_linear_operator_are_those_of_differences(form, batch):
    values, indices, sizes = parts(form, matrix(8, 12))
    filling = indices[1] if form in {"ell", "nm"} else torch.zeros_like(values, dtype=torch.bool)
    x, bias = torch.randn(*batch, 12).double(), torch.randn(8).double()

    def layer(x, values, bias):
        return LINEAR[form](x, values.masked_fill(filling, 0), bias, indices, sizes)

    for each in (x, values, bias):
        each.requires_grad_()
    assert torch.autograd.gradcheck(layer, (x, values, bias))


@pytest.mark.parametrize("form", FORMS_HERE)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_every_dtype_against_the_reference(form, dtype, backend, poisoned):
    dense = matrix(16, 24, dtype)
    values, indices, sizes = parts(form, dense, **({"block": 4} if form == "bsr" else {}))
    device = backend.device
    values, indices = values.to(device), [index.to(device) for index in indices]
    x, bias = torch.randn(3, 48, device=device)[:, ::2].to(dtype), torch.randn(16).to(dtype)
    given, learned = x.clone().requires_grad_(), values.clone().requires_grad_()
    with backend.active():
        y = LINEAR[form](given, learned, bias.to(device), indices, sizes)
        y.backward(torch.ones_like(y))
    wanted = reference.linear(dense, x.cpu(), bias)
    assert (y.detach().cpu().double() - wanted).norm() <= TOLERANCE[dtype] * wanted.norm()
    by_x = dense.double().sum(dim=0).expand(3, -1)
    error = (given.grad.cpu().double() - by_x).norm()
    assert error <= 2 * TOLERANCE[dtype] * by_x.norm()
    by_weight = x.cpu().double().sum(dim=0).expand(16, -1)
    kept = pack(form, by_weight * (dense != 0), dense != 0, **settings_of(form))
    if form not in {"bsr", "grouped"}:  # those have zeros among what learns
        error = (learned.grad.cpu().double() - kept.values).norm()
        assert error <= 2 * TOLERANCE[dtype] * kept.values.norm()


def settings_of(form: str) -> dict[str, int]:
    return {"block": 4} if form == "bsr" else {}


@pytest.mark.parametrize("form", FORMS_HERE)
def test_what_only_fills_rows_up_does_not_learn(form):
    dense = matrix(8, 14)
    mask = dense != 0
    mask[0, :2] = True
    dense[0, :2] = 0  # grown, and therefore zero
    values, indices, sizes = parts_of_mask(form, dense, mask)
    learned = values.clone().requires_grad_()
    x = torch.randn(3, 14).double()
    LINEAR[form](x, learned, None, indices, sizes).sum().backward()
    changed = learned.detach() - learned.grad
    unit = torch.eye(14).double()
    weight = LINEAR[form](unit, changed, None, indices, sizes).t()
    if form in {"bsr", "grouped"}:
        return
    expected = torch.where(mask, dense - x.sum(dim=0), 0)
    torch.testing.assert_close(weight, expected)


def parts_of_mask(form: str, dense: torch.Tensor, mask: torch.Tensor):
    packed = pack(form, dense, mask)
    return packed.values, list(packed.indices.values()), list(packed.sizes)


WALKS = {
    1: ([3], [2], [1], [1], 1, (2, 4, 9)),
    2: ([3, 2], [1, 2], [1, 0], [2, 1], 2, (2, 4, 7, 6)),
    3: ([2, 1, 2], [1, 1, 2], [0, 0, 1], [1, 1, 1], 1, (1, 2, 3, 3, 4)),
}


@pytest.mark.parametrize("dims", WALKS)
def test_the_convolution_is_well_formed_and_has_its_gradients(dims):
    kernel, stride, padding, dilation, groups, shape = WALKS[dims]
    torch.manual_seed(0)
    columns = shape[1] // groups * int(torch.tensor(kernel).prod())
    kept = torch.nonzero(torch.rand(columns) < 0.6).flatten().to(torch.int32)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    values = torch.randn(6, len(kept), dtype=torch.float64, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True)
    walk = (kernel, stride, padding, dilation, groups)
    opcheck(grouped_conv, (x, values, bias, kept, *walk))
    assert torch.autograd.gradcheck(
        lambda x, values, bias: grouped_conv(x, values, bias, kept, *walk), (x, values, bias)
    )
    wanted = reference.convolution(
        reference.spread_columns(values.detach(), kept, columns).view(6, -1, *kernel),
        *(x.detach(), bias.detach()),
        stride=stride, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip
    torch.testing.assert_close(grouped_conv(x, values, bias, kept, *walk).detach(), wanted)


def test_forms_and_masks_that_are_none_are_refused():
    with pytest.raises(ValueError, match="no form 'dense'"):
        pack("dense", matrix())
    with pytest.raises(ValueError, match="mask must be bool"):
        pack("csr", matrix(), torch.ones(12, 20))
    with pytest.raises(ValueError, match="mask must be bool"):
        pack("csr", matrix(), torch.ones(3, 20, dtype=torch.bool))


def test_values_that_cannot_learn_say_so():
    from secateur.kernels.modules.form import Packed
    from secateur.kernels.modules.linear import SparseLinear

    packed = Packed(torch.randn(4, 4), {}, (4, 4))
    with pytest.raises(ValueError, match="cannot learn"):
        SparseLinear("two_four", packed, trainable=True)
    values = nn.Parameter(torch.randn(4, 4))
    with pytest.raises((RuntimeError, NotImplementedError)):
        LINEAR["two_four"](torch.randn(2, 4), values, None, [], [4, 4])
