"""The layers that stand in for pruned ones: outputs and all gradients, against dense in double."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from secateur.kernels.modules.conv import SparseConv
from secateur.kernels.modules.linear import SparseLinear
from secateur.kernels.selection.packing import pack_n_of_m
from secateur.tests.bench.gpu.correctness import Found, check
from secateur.tests.bench.gpu.setting import Case, Setting


def cases(setting: Setting) -> list[Case]:
    return list(_rows())


def _rows() -> Iterator[Case]:
    for precision in ("fp32", "bf16"):
        for form in ("csr", "ell", "bsr", "bitmap", "nm", "grouped"):
            make = partial(_module, form, 2, 64)
            yield check(form, "linear layer", make, precision)
        for form in ("csr", "grouped"):
            make = partial(_module, form, 4, 4)
            yield check(form, "convolution", make, precision)


def _module(form: str, dims: int, batch: int, setting: Setting, dtype: torch.dtype) -> Found:
    out, ins = (32, 48) if setting.quick else (256, 320)
    if dims == 2:
        dense: nn.Module = nn.Linear(ins, out, device=setting.device)
        x, kind = setting.randn(batch, ins), SparseLinear
    else:
        dense = nn.Conv2d(ins, out, 3, padding=1, device=setting.device)
        x, kind = setting.randn(batch, ins, 14, 14), SparseConv
    matrix = dense.weight.detach().flatten(1)
    mask = _mask(form, matrix, setting)
    with torch.no_grad():
        dense.weight.copy_((matrix * mask).view_as(dense.weight))
    dense, x = dense.to(dtype), x.to(dtype)
    sparse = kind.from_dense(dense, form, mask, trainable=True)
    exact, found = x.double().requires_grad_(), x.clone().requires_grad_()
    wanted = dense.double()(exact)
    y = sparse(found)
    grad = setting.randn(*y.shape, dtype=dtype)
    y.backward(grad)
    wanted.backward(grad.double())
    # The dense gradient, packed as the weight was, lies as that of the values does.
    with torch.no_grad():
        dense.weight.copy_(dense.weight.grad)
    by_values = kind.from_dense(dense, form, mask).values
    return (
        [y.detach(), found.grad, sparse.bias.grad, sparse.values.grad],
        [wanted.detach(), exact.grad, dense.bias.grad, by_values],
    )


def _mask(form: str, matrix: Tensor, setting: Setting) -> Tensor:
    """A mask that the form stores without filling."""
    out, ins = matrix.shape
    if form == "grouped":
        return setting.columns(ins, 0.25).expand(out, ins)
    if form == "bsr":
        blocks = setting.scattered(out // 16, ins // 16, 0.25)
        return blocks.repeat_interleave(16, 0).repeat_interleave(16, 1)
    return pack_n_of_m(matrix.contiguous(), 2, 4).to_dense() != 0
