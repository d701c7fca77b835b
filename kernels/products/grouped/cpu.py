"""Group-wise convolution on the CPU with the gather fused (S1, algorithm 1, without its im2col).

The GEMM view of a convolution is W[out, kept] times the gathered rows [kept, pixels]. Here both
that matrix and the padded input exist only in pieces that fit the second-level cache: of a few
images, or of a few pixel rows of one, the input is copied into a small padded tile, each kept
position's pixel rows are copied out of the tile (runs of neighbouring entries: plain memory
copies), and one GEMM writes the piece's outputs. With a stride along the last dimension the tile
holds every stride-th column together, so that runs stay runs. A contiguous input without padding
is its own tile. Contiguous fp32 images go without the gathered matrix and the GEMM where loops can
be compiled (compiled/conv.py).

Bytes moved through the cache, with e bytes an entry: 2e * channels * pixels for the tile and
2e * kept * pixels for the rows; operations: 2 * out * kept * pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...compiled.jit import ready

if TYPE_CHECKING:
    from ...compiled.conv import Panels
    from ...compiled.conv import Plan as Loops

# Bytes of gathered rows in one piece. One to four MiB measured equally fast with 2 MiB of cache
# per core; smaller pieces pay for starting threads, larger ones leave the cache.
_PIECE = 2 << 20
# Output pixels in a row from which on the compiled loops are faster.
_FEWEST_PIXELS = 4


@dataclass(frozen=True)
class Window:
    """How a kernel walks over one, two or three dimensions; `padding` is (before, after) each."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    def outputs(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The output's size for an input of `size`; raises ValueError where none is left."""
        found = tuple(
            (length + before + after - far * (taps - 1) - 1) // step + 1
            for length, taps, step, far, (before, after) in zip(
                size, self.kernel, self.stride, self.dilation, self.padding, strict=True
            )
        )
        if min(found) < 1:
            raise ValueError(f"an input of {list(size)} is smaller than the kernel {self.kernel}")
        return found

    def walks(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Kernel, stride, dilation, and padding before and after, of each dimension."""
        walks = zip(self.kernel, self.stride, self.dilation, self.padding, strict=True)
        return ((taps, step, far, *pad) for taps, step, far, pad in walks)

    def flat(self) -> Window:
        """The same over one more dimension in front, of length 1."""
        return Window(
            (1, *self.kernel), (1, *self.stride), (1, *self.dilation), ((0, 0), *self.padding)
        )


@dataclass(frozen=True)
class Gather:
    """Where the kept positions lie, for inputs of one size and layout, and how to cut those.

    A tile is [images, channels, rows, ..., step, columns], with `rows` of the first dimension after
    the channels and the last one in `step` interleaved parts. `direct`: the input itself is the
    tile. `loops` is the plan of the compiled loops for contiguous images, where they are faster.
    """

    window: Window
    outputs: tuple[int, ...]
    direct: bool
    images: int
    rows: int
    tile: tuple[int, ...]
    kept: Tensor
    loops: Loops | None

    @classmethod
    def plan(cls, window: Window, kept: Tensor, x: Tensor, groups: int = 1) -> Gather:
        """Cut inputs such as `x` [n, c, *size], of one to three dimensions.

        `kept` (integers, 1-d) flattens channel within the group and place in the kernel, as the
        columns of the weight's GEMM view. Raises ValueError where `x` is smaller than the kernel.
        """
        if x.dim() == 3:
            return cls.plan(window.flat(), kept, x.unsqueeze(2), groups)
        batch, channels, *size = x.shape
        channels //= groups
        outputs = window.outputs(tuple(size))
        step = window.stride[-1]
        padded = any(map(any, window.padding))
        direct = step == 1 and not padded and groups == 1 and x.is_contiguous()

        row = max(1, len(kept)) * math.prod(outputs[1:]) * x.element_size()
        pieces = -(-outputs[0] // max(1, _PIECE // row))
        rows = -(-outputs[0] // pieces)
        images = max(1, min(batch, _PIECE // (row * rows))) if pieces == 1 else 1

        wide = [n + sum(pad) for n, pad in zip(size, window.padding, strict=True)]
        if not direct:
            reach = window.dilation[0] * (window.kernel[0] - 1) + 1
            wide[0] = (rows - 1) * window.stride[0] + reach
        tile = (images, channels, *wide[:-1], step, -(-wide[-1] // step))
        loops = _loops(window, kept, x, outputs) if groups == 1 else None
        return cls(window, outputs, direct, images, rows, tile, kept, loops)

    @cached_property
    def starts(self) -> Tensor:
        """Where each run of outputs begins in a tile: int64 [kept, images, output rows, ...].

        Made when it is first asked for: the compiled loops do without.
        """
        window, tile = self.window, self.tile
        strides = torch.empty(tile, device="meta").stride()
        channel, *places = torch.unravel_index(self.kept.long(), (tile[1], *window.kernel))
        last = places[-1] * window.dilation[-1]
        starts = channel * strides[1] + last % tile[-2] * strides[-2] + last // tile[-2]
        for place, far, stride in zip(places[:-1], window.dilation, strides[2:], strict=False):
            starts = starts + place * (far * stride)
        counts, jumps = (self.images, self.rows, *self.outputs[1:-1]), (1, *window.stride[:-1])
        for count, jump, stride in zip(counts, jumps, (strides[0], *strides[2:]), strict=False):
            starts = starts.unsqueeze(-1) + torch.arange(count) * (jump * stride)
        return starts

    def pieces(self, batch: int) -> Iterator[tuple[slice, slice]]:
        """The images and output rows of each piece."""
        for image in range(0, batch, self.images):
            for row in range(0, self.outputs[0], self.rows):
                images = slice(image, min(image + self.images, batch))
                yield images, slice(row, min(row + self.rows, self.outputs[0]))


def grouped_conv_cpu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    gather: Gather,
    groups: int = 1,
    panels: Panels | None = None,
) -> Tensor:
    """The convolution of `x` with the kept positions alone: [n, c, *size] -> [n, out, *outputs].

    `weight` is [out, kept], `bias` [out] or None, in the dtype of `x`; padding is with zeros. With
    several groups each keeps the same positions. `gather` is the plan for inputs of the size and,
    for its speed, the layout of `x`. The output is channels-last where `x` is. Gives no gradients.
    """
    if x.dim() == 3:
        return grouped_conv_cpu(x.unsqueeze(2), weight, bias, gather, groups).squeeze(2)
    result = x.new_empty(len(x), *gather.outputs, len(weight)).movedim(-1, 1)
    if not _channels_last(x):
        result = torch.empty_like(result, memory_format=torch.contiguous_format)
    if result.numel() == 0:
        return result
    if gather.loops is not None and x.is_contiguous():
        from ...compiled.conv import Panels, convolve

        convolve(x, Panels.of(weight, bias) if panels is None else panels, result, gather.loops)
        return result
    biases = [None] * groups if bias is None else bias.chunk(groups)
    parts = (result.chunk(groups, 1), x.chunk(groups, 1), weight.chunk(groups), biases)
    for target, given, rows, each in zip(*parts, strict=True):
        _convolve(target, given, rows, each, gather)
    return result


def gathered(x: Tensor, gather: Gather) -> Iterator[tuple[slice, slice, Tensor]]:
    """The rows that each piece's product reads, after the piece's images and output rows.

    They are [kept, pixels of the piece], and the next piece overwrites them. `x` [n, c, *size] is
    of one group and of two or three dimensions.
    """
    x = x.contiguous() if gather.direct else x
    run = gather.outputs[-1]
    tile = x
    if not gather.direct:
        tile = x.new_empty(gather.tile)
        _clear_borders(tile, gather.window, x.shape)
    room = x.new_empty(gather.starts.numel(), run)
    for images, rows in gather.pieces(len(x)):
        count, height = images.stop - images.start, rows.stop - rows.start
        source = tile
        if gather.direct:
            source = x[images, :, rows.start * gather.window.stride[0] :]
        else:
            _fill(tile[:count], x[images], gather.window, rows)
        starts = gather.starts[:, :count, :height].reshape(-1)
        found = room[: len(starts)]
        torch.index_select(_runs(source, run), 0, starts, out=found)
        pixels = count * height * math.prod(gather.outputs[1:])
        yield images, rows, found.view(len(gather.starts), pixels)


def _loops(window: Window, kept: Tensor, x: Tensor, outputs: tuple[int, ...]) -> Loops | None:
    """The plan of the compiled loops; None for what they do not take or are slower at."""
    if x.dim() != 4 or x.dtype != torch.float32 or not x.is_contiguous():
        return None
    if outputs[1] < _FEWEST_PIXELS or not ready():
        return None
    from ...compiled.conv import Plan

    down, across = window.walks()
    return Plan.of((down, across), kept, x.shape, outputs)


def _convolve(
    result: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, gather: Gather
) -> None:
    """Write the convolution into `result` [n, out, *outputs], contiguous or channels-last."""
    out = len(weight)
    last = result.stride(1) == 1 and result.stride(-1) != 1
    pixels = gather.rows * math.prod(gather.outputs[1:])
    spare = x.new_empty(out * gather.images * pixels if gather.images > 1 and not last else 0)
    column = None if bias is None else bias[:, None]
    for images, rows, given in gathered(x, gather):
        count = images.stop - images.start
        if last:
            target = result.movedim(1, -1)[images, rows].view(-1, out)
            _multiply(given.t(), weight.t(), bias, target)
        elif count == 1:
            _multiply(weight, given, column, result[images.start][:, rows].view(out, -1))
        else:
            product = spare[: out * given.shape[1]].view(out, -1)
            _multiply(weight, given, column, product)
            flat = result[images].view(count, out, -1)
            flat.copy_(product.view(out, count, -1).transpose(0, 1))


def _multiply(left: Tensor, right: Tensor, bias: Tensor | None, out: Tensor) -> None:
    if bias is None:
        torch.mm(left, right, out=out)
    else:
        torch.addmm(bias, left, right, out=out)


def _channels_last(x: Tensor) -> bool:
    """Whether the channels of [n, c, *size] are the innermost dimension, and more than one."""
    return not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def _runs(source: Tensor, run: int) -> Tensor:
    """Every `run` neighbouring entries in memory from the first of `source` on, as rows."""
    extent = sum((n - 1) * s for n, s in zip(source.shape, source.stride(), strict=True)) + 1
    return source.as_strided((extent - run + 1, run), (1, 1))


def _clear_borders(tile: Tensor, window: Window, shape: tuple[int, ...]) -> None:
    """Zero what `_fill` never writes: the padding of all dimensions but the first."""
    for dim in range(3, tile.dim() - 2):
        before = window.padding[dim - 2][0]
        tile.narrow(dim, 0, before).zero_()
        behind = before + shape[dim]
        tile.narrow(dim, behind, tile.shape[dim] - behind).zero_()
    for part, (_, place, count) in enumerate(_parts(window, shape[-1])):
        columns = tile.select(-2, part)
        columns[..., :place].zero_()
        columns[..., place + count :].zero_()


def _fill(tile: Tensor, x: Tensor, window: Window, rows: slice) -> None:
    """Copy into the tile the input rows that the output `rows` read, zeros where there are none."""
    start = rows.start * window.stride[0] - window.padding[0][0]
    height = tile.shape[2]
    above = min(max(-start, 0), height)
    below = max(above, min(x.shape[2] - start, height))
    tile[:, :, :above].zero_()
    tile[:, :, below:].zero_()
    tile, x = tile[:, :, above:below], x[:, :, start + above : start + below]
    if x.stride(1) == 1:
        # Channels-last: torch turns a matrix around in blocks, but no more than a matrix.
        matrix = x.movedim(1, -1).reshape(-1, x.shape[1])
        x = matrix.t().contiguous().view(x.shape[1], len(x), *x.shape[2:]).transpose(0, 1)
    for dim in range(3, x.dim() - 1):
        tile = tile.narrow(dim, window.padding[dim - 2][0], x.shape[dim])
    for part, (first, place, count) in enumerate(_parts(window, x.shape[-1])):
        columns = x[..., first :: window.stride[-1]]
        tile.select(-2, part)[..., place : place + count].copy_(columns)


def _parts(window: Window, width: int) -> Iterator[tuple[int, int, int]]:
    """Of each interleaved part: its first input column, that one's place in it, and how many."""
    step, before = window.stride[-1], window.padding[-1][0]
    for part in range(step):
        first = (part - before) % step
        yield first, (first + before) // step, len(range(first, width, step))
