"""Group-wise products (S1, algorithms 1 and 2): only the kept columns of W, gathered, one GEMM.

With a column of W[out, in] gone for all outputs, the input position that it stands for is never
read. A linear layer picks the kept inputs; a convolution picks the kept (channel, kernel row,
kernel column) positions, on the CPU piece by piece (`cpu_grouped`), elsewhere at once from a
strided view of its padded input. The whole im2col matrix is never made.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .cpu_grouped import Gather, Window, grouped_conv_cpu

# Below this share of kept columns in the channels that are left, gathering single kernel positions
# measured faster than a dense convolution over those channels.
_GATHER_BELOW = 0.5


class GroupedLinear(nn.Module):
    """A linear layer that reads only the kept inputs: [..., in] -> [..., out].

    `weight` is [out, kept], `kept` int64 [kept] with the inputs' places, `bias` [out] or None.
    """

    kept: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, kept: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.register_buffer("kept", kept)

    @classmethod
    def from_dense(cls, module: nn.Linear, column_mask: Tensor) -> Self:
        """Take the kept columns of a linear layer; `column_mask` is bool [in], True where kept."""
        weight = module.weight.detach()
        kept = _kept(column_mask, weight.shape[1])
        bias = None if module.bias is None else module.bias.detach()
        return cls(weight.index_select(1, kept), bias, kept)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(_last(x, self.kept), self.weight, self.bias)


class GroupedConv2d(nn.Module):
    """A convolution that reads only the kept positions: [n, c, h, w] -> [n, out, h', w'].

    `weight` is [out, kept] and `kept` int64 [kept] over (channel, kernel row, kernel column).
    Padding of any mode; one group. On the CPU without gradients the gather is fused.
    """

    kept: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        kept: Tensor,
        window: Window,
        *,
        padding: list[int],
        padding_mode: str,
    ) -> None:
        """`padding` is what goes around the input beforehand, for modes other than zeros."""
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.register_buffer("kept", kept)
        self.window, self.padding, self.padding_mode = window, padding, padding_mode
        self._planned: tuple[object, Gather] | None = None

    @classmethod
    def from_dense(cls, module: nn.Conv2d, column_mask: Tensor) -> Self:
        """Take the kept columns of a convolution.

        `column_mask` is bool [in_channels * kh * kw] over (channel, kernel row, kernel column),
        True where kept. Raises ValueError for several groups.
        """
        matrix = _matrix(module)
        kept = _kept(column_mask, matrix.shape[1])
        around = list(module._reversed_padding_repeated_twice)
        zeros = module.padding_mode == "zeros"
        pads = ((around[2], around[3]), (around[0], around[1])) if zeros else ((0, 0), (0, 0))
        return cls(
            matrix.index_select(1, kept),
            None if module.bias is None else module.bias.detach(),
            kept,
            Window(module.kernel_size, module.stride, module.dilation, pads),
            padding=[0] * len(around) if zeros else around,
            padding_mode="constant" if zeros else module.padding_mode,
        )

    def forward(self, x: Tensor) -> Tensor:
        if any(self.padding):
            x = F.pad(x, self.padding, self.padding_mode)
        tensors = (x, *self.parameters())
        if x.is_cpu and not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors)):
            return grouped_conv_cpu(x, self.weight, self.bias, self._gather(x))
        return self._in_one(x)

    def _gather(self, x: Tensor) -> Gather:
        """The plan for inputs like `x`; the last one is remembered."""
        key = x.shape, x.dtype, x.is_contiguous()
        if self._planned is None or self._planned[0] != key:
            self._planned = key, Gather.plan(self.window, self.kept, x)
        return self._planned[1]

    def _in_one(self, x: Tensor) -> Tensor:
        """All kept positions gathered at once: on any device, and with gradients."""
        window = self.window
        around = [length for pair in reversed(window.padding) for length in pair]
        padded = F.pad(x, around) if any(around) else x
        batch, channels = padded.shape[:2]
        (rows, columns), (down, right), (tall, wide) = window.kernel, window.stride, window.dilation
        height, width = window.outputs(tuple(x.shape[2:]))
        n, c, h, w = padded.stride()
        # Every (channel, kernel row, kernel column) as an image of its own: a view, nothing copied.
        patches = padded.as_strided(
            (batch, channels, rows, columns, height, width),
            (n, c, h * tall, w * wide, h * down, w * right),
        )
        channel, row, column = torch.unravel_index(self.kept, (channels, rows, columns))
        gathered = patches[:, channel, row, column]
        product = self.weight @ gathered.reshape(batch, len(self.kept), height * width)
        if self.bias is not None:
            product = product + self.bias[:, None]
        return product.view(batch, -1, height, width)


class ChannelConv2d(nn.Module):
    """A dense convolution over the channels that have any kept column: [n, c, h, w] -> the same.

    Removed columns of channels that stay are zeros in its weight.
    """

    kept: Tensor

    def __init__(self, convolution: nn.Conv2d, kept: Tensor) -> None:
        super().__init__()
        self.convolution = convolution
        self.register_buffer("kept", kept)

    @classmethod
    def from_dense(cls, module: nn.Conv2d, column_mask: Tensor) -> Self:
        """Take the channels of which any column is kept; arguments as in `GroupedConv2d`.

        Raises ValueError for several groups and where nothing is kept.
        """
        matrix = _matrix(module)
        kept = _kept(column_mask.view(module.in_channels, -1).any(dim=1), module.in_channels)
        if len(kept) == 0:
            raise ValueError("no column is kept")
        masked = (matrix * column_mask.to(matrix.device)).view_as(module.weight)
        small = nn.Conv2d(
            len(kept),
            module.out_channels,
            module.kernel_size,  # type: ignore[arg-type]
            module.stride,  # type: ignore[arg-type]
            module.padding,  # type: ignore[arg-type]
            module.dilation,  # type: ignore[arg-type]
            bias=module.bias is not None,
            padding_mode=module.padding_mode,
            device="meta",
        )
        small.weight = nn.Parameter(masked.index_select(1, kept), requires_grad=False)
        if module.bias is not None:
            small.bias = nn.Parameter(module.bias.detach(), requires_grad=False)
        return cls(small.train(module.training), kept)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_contiguous(memory_format=torch.channels_last):
            return self.convolution(_last(x.movedim(1, -1), self.kept).movedim(-1, 1))
        return self.convolution(x.index_select(1, self.kept))


def grouped(module: nn.Module, column_mask: Tensor) -> nn.Module:
    """The group-wise form of a linear layer or a convolution that should be fastest.

    `column_mask` is bool [in] over the columns of the GEMM view, True where kept. The choice
    between the two forms of a convolution goes by the share of columns kept in the channels that
    are left; a measurement knows better. Raises ValueError for layers that have no such form.
    """
    if isinstance(module, nn.Linear):
        return GroupedLinear.from_dense(module, column_mask)
    if not isinstance(module, nn.Conv2d):
        raise ValueError(f"{type(module).__name__} has no group-wise product")
    channels = column_mask.view(-1, module.kernel_size[0] * module.kernel_size[1])
    left = channels[channels.any(dim=1)]
    if left.numel() and float(left.float().mean()) >= _GATHER_BELOW:
        return ChannelConv2d.from_dense(module, column_mask)
    return GroupedConv2d.from_dense(module, column_mask)


def _matrix(module: nn.Conv2d) -> Tensor:
    if module.groups != 1:
        raise ValueError(f"a convolution of {module.groups} groups has no group-wise product")
    return module.weight.detach().flatten(1)


def _last(x: Tensor, kept: Tensor) -> Tensor:
    """The entries `kept` of the last dimension; as a matrix, ten times as fast on the CPU."""
    flat = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return flat.index_select(1, kept).view(*x.shape[:-1], len(kept))


def _kept(mask: Tensor, length: int) -> Tensor:
    if mask.dtype != torch.bool or tuple(mask.shape) != (length,):
        raise ValueError(f"the mask must be bool [{length}], not {mask.dtype} {list(mask.shape)}")
    return torch.nonzero(mask).flatten()
