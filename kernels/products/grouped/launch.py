"""Launching the tile kernels of the group-wise products, in float arithmetic or on tensor cores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ...cuda.launch import launch
from ...cuda.source import Source, scalar
from .tiles import Cut, aligned_rows


@dataclass(frozen=True)
class Convolution:
    """How a kernel walks over three dimensions, the first ones of size 1 where there are fewer.

    `padding` is with zeros, the same before and after.
    """

    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    padding: tuple[int, int, int]
    dilation: tuple[int, int, int]
    groups: int

    @classmethod
    def of(
        cls,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
    ) -> Self:
        """Over one to three dimensions."""
        return cls(
            _three(kernel, 1), _three(stride, 1), _three(padding, 0), _three(dilation, 1), groups
        )

    def whole(self, images: Tensor) -> Tensor:
        """Images [n, c, *size] with three dimensions."""
        missing = 5 - images.dim()
        return images.reshape(*images.shape[:2], *(1,) * missing, *images.shape[2:])

    def outputs(self, size: tuple[int, ...]) -> tuple[int, int, int]:
        """The output's size for an input of `size`; raises ValueError where none is left."""
        deep, high, wide = (
            (length + 2 * pad - far * (taps - 1) - 1) // step + 1
            for length, taps, step, pad, far in zip(
                size, self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        if min(deep, high, wide) < 1:
            raise ValueError(f"an input of {list(size)} is smaller than the kernel {self.kernel}")
        return deep, high, wide


def _three(part: tuple[int, ...], fill: int) -> tuple[int, int, int]:
    first, second, third = (*(fill,) * (3 - len(part)), *part)
    return first, second, third


def linear_by_tiles(
    source: Source, plan: Cut, x: Tensor, values: Tensor, kept: Tensor, bias: Tensor | None
) -> Tensor:
    """Run the linear kernel of `source`: x [batch, in] contiguous, values [out, kept]."""
    batch, outs = len(x), len(values)
    y = torch.empty(batch, outs, dtype=x.dtype, device=x.device)
    values = aligned_rows(values)
    sizes = (_pitch(values), len(kept), outs, batch, x.shape[1], plan.splits)
    variant = {"T": scalar(x.dtype), **plan.tile.macros}
    grid = (plan.blocks(outs, batch), 1, plan.splits)
    _launch(source, plan, grid, variant, (x, values, kept, bias, y), sizes, inner=1)
    return y


def conv_by_tiles(
    source: Source,
    plan: Cut,
    x: Tensor,
    values: Tensor,
    kept: Tensor,
    bias: Tensor | None,
    walk: Convolution,
) -> Tensor:
    """Run the convolution of `source`: x [n, c, d, h, w] contiguous, values [out, kept]."""
    (batch, channels, *size), outs, groups = x.shape, len(values), walk.groups
    outputs = walk.outputs(tuple(size))
    positions = math.prod(outputs)
    y = torch.empty(batch, outs, *outputs, dtype=x.dtype, device=x.device)
    values = aligned_rows(values)
    sizes = (
        *(_pitch(values), len(kept), plan.splits, batch, channels, groups, outs),
        *(*size, *outputs, *walk.kernel, *walk.stride, *walk.padding, *walk.dilation),
    )
    variant = {"T": scalar(x.dtype), **plan.tile.macros}
    grid = (plan.blocks(outs // groups, batch * positions), 1, groups * plan.splits)
    _launch(source, plan, grid, variant, (x, values, kept, bias, y), sizes, inner=positions)
    return y


def _pitch(values: Tensor) -> int:
    """Entries from row to row; without any kept there is no row to be aligned."""
    return values.stride(0) if values.numel() else 0


def _launch(
    source: Source,
    plan: Cut,
    grid: tuple[int, int, int],
    variant: Mapping[str, str],
    tensors: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor],
    sizes: tuple[int, ...],
    inner: int,
) -> None:
    """Run the kernel named as the file of `source`, and add up its parts where there are several.

    Output o of y stands at every i with i / `inner` % out = o.
    """
    x, values, kept, bias, y = tensors
    offset = x.new_empty(0) if bias is None else bias.contiguous()
    count = y.numel() * plan.splits if plan.splits > 1 else 0
    parts = torch.empty(count, dtype=torch.float32, device=x.device)
    name = source.functions[0]
    args: tuple[Tensor | int, ...] = (x, values, kept, offset, y, parts, *sizes)
    block = (plan.tile.threads,)
    launch(source, name, grid, block, args, variant=variant, shared=plan.tile.shared)
    if count:
        total = (parts, offset, y, y.numel(), plan.splits, inner, len(values))
        launch(source, f"{name}_sum", (-(-y.numel() // 256),), (256,), total, variant=variant)
