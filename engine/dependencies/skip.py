"""Following a slow model without its arithmetic: what hangs together needs no values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

_HEAVY = frozenset(
    f"aten::{name}"
    for name in (
        "convolution", "mm", "addmm", "bmm", "baddbmm",
        "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
    )
)  # fmt: skip


def is_heavy(func: Any) -> bool:
    """Whether most of a network's time goes into this operation, and its result can be left out."""
    return func._schema.name in _HEAVY


def blank(func: Any, args: Any, kwargs: Any) -> Any:
    """Zeros of the shapes, strides and types that the operation would give."""
    device = next(a.device for a in args if isinstance(a, Tensor))

    def meta(value: Any) -> Any:
        return value.to("meta") if isinstance(value, Tensor) else value

    def zeros(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        sizes, strides = value.shape, value.stride()
        return torch.empty_strided(sizes, strides, dtype=value.dtype, device=device).zero_()

    return tree_map(zeros, func(*tree_map(meta, args), **tree_map(meta, kwargs)))


def shaped_by_data(func: Any, inputs: Iterable[Tensor]) -> bool:
    """Whether the sizes of the operation's result depend on values of its `inputs`."""
    tags = func.tags
    if func._schema.name == "aten::index":  # only a mask picks as many as it is true
        return any(tensor.dtype in (torch.bool, torch.uint8) for tensor in inputs)
    return torch.Tag.dynamic_output_shape in tags or torch.Tag.data_dependent_output in tags
