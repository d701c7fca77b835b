"""The products as torch operators, ``torch.ops.secateur``: compile and export see through them.

`LINEAR` has one per form of `forms.py`, all called alike: ``csr_linear(x, values, bias, indices,
sizes)``, from x [..., in] to [..., out], with `indices` and `sizes` as the form packs them. They
have gradients by x, by the values and by the bias.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from ..cuda.launch import launchable
from ..products.grouped.conv import grouped_conv as product
from ..products.grouped.conv import grouped_conv_backward as product_backward
from ..products.grouped.cpu import Gather, Window, grouped_conv_cpu
from .form import Form
from .forms import FORMS

Ints = list[int]
Operator = Callable[..., Tensor]


def _register(name: str, form: Form) -> Operator:
    """The linear layer in a form, and the operator of its gradients."""

    def multiply(
        x: Tensor, values: Tensor, bias: Tensor | None, indices: list[Tensor], sizes: Ints
    ) -> Tensor:
        return form.multiply(x, values, bias, indices, sizes)

    def gradients(
        grad: Tensor, x: Tensor, values: Tensor, indices: list[Tensor], sizes: Ints
    ) -> tuple[Tensor, Tensor]:
        rows, samples = grad.reshape(-1, sizes[0]), x.reshape(-1, sizes[1])
        by_x, by_values = form.backward(rows, samples, values, indices, sizes)
        return by_x.reshape(x.shape).contiguous(), by_values.contiguous()

    linear = custom_op(f"secateur::{name}_linear", multiply, mutates_args=())
    backward = custom_op(f"secateur::{name}_linear_backward", gradients, mutates_args=())

    @linear.register_fake
    def _(x: Tensor, values: Tensor, bias: Any, indices: Any, sizes: Ints) -> Tensor:
        return x.new_empty(*x.shape[:-1], sizes[0])

    @backward.register_fake
    def _(
        grad: Tensor, x: Tensor, values: Tensor, indices: Any, sizes: Ints
    ) -> tuple[Tensor, Tensor]:
        return x.new_empty(x.shape), values.new_empty(values.shape)

    def remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, values, _, indices, ctx.sizes = inputs
        if ctx.needs_input_grad[1] and not form.learns:
            raise RuntimeError(f"the values of {name} are packed for good and cannot learn")
        ctx.save_for_backward(x, values, *indices)

    def back(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, values, *indices = ctx.saved_tensors
        by_x, by_values = backward(grad, x, values, indices, ctx.sizes)
        by_bias = grad.reshape(-1, ctx.sizes[0]).sum(0) if ctx.needs_input_grad[2] else None
        return by_x, by_values, by_bias, [None] * len(indices), None

    linear.register_autograd(back, setup_context=remember)
    return linear


LINEAR: dict[str, Operator] = {name: _register(name, form) for name, form in FORMS.items()}
"""The operator of each form."""


@custom_op("secateur::grouped_conv", mutates_args=())
def grouped_conv(
    x: Tensor,
    values: Tensor,
    bias: Tensor | None,
    kept: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Tensor:
    """A convolution that reads only the positions `kept`; arguments as those of the product.

    The output is contiguous. The CPU plans its gather anew at each call.
    """
    walk = (tuple(kernel), tuple(stride), tuple(dilation))
    if x.is_cpu and not launchable(x):
        window = Window(*walk, tuple((pad, pad) for pad in padding))
        plan = Gather.plan(window, kept, x, groups)
        return grouped_conv_cpu(x, values, bias, plan, groups).contiguous()
    return run_grouped_conv(x, values, bias, kept, kernel, stride, padding, dilation, groups)


def run_grouped_conv(
    x: Tensor,
    values: Tensor,
    bias: Tensor | None,
    kept: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Tensor:
    """The product itself, with tensor cores for fp32 where torch allows convolutions TF32."""
    return product(
        x,
        values,
        kept,
        bias,
        kernel=tuple(kernel),
        stride=tuple(stride),
        padding=tuple(padding),
        dilation=tuple(dilation),
        groups=groups,
        tf32=x.is_cuda and torch.backends.cudnn.conv.fp32_precision == "tf32",  # type: ignore[attr-defined]
    )


@custom_op("secateur::grouped_conv_backward", mutates_args=())
def grouped_conv_backward(
    grad: Tensor,
    x: Tensor,
    values: Tensor,
    kept: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> tuple[Tensor, Tensor]:
    """The gradients of `grouped_conv` by x and by the values."""
    walk = {"stride": tuple(stride), "padding": tuple(padding), "dilation": tuple(dilation)}
    found = product_backward(grad, x, values, kept, kernel=tuple(kernel), groups=groups, **walk)
    by_x, by_values = found
    return by_x.contiguous(), by_values.contiguous()


@grouped_conv.register_fake
def _(
    x: Tensor,
    values: Tensor,
    bias: Any,
    kept: Any,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Tensor:
    walks = zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    sizes = [(n + 2 * pad - far * (k - 1) - 1) // step + 1 for n, k, step, pad, far in walks]
    return x.new_empty(x.shape[0], values.shape[0], *sizes)


@grouped_conv_backward.register_fake
def _(grad: Tensor, x: Tensor, values: Tensor, kept: Any, *walk: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), values.new_empty(values.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, _, kept, *ctx.walk = inputs
    ctx.save_for_backward(x, values, kept)


def _back(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    by_x, by_values = grouped_conv_backward(grad, *ctx.saved_tensors, *ctx.walk)
    by_bias = grad.transpose(0, 1).flatten(1).sum(1) if ctx.needs_input_grad[2] else None
    return by_x, by_values, by_bias, *(None,) * 6


grouped_conv.register_autograd(_back, setup_context=_remember)
