"""What kept positions read of images, as rows, and the way back: im2col, col2im of a few columns.

Images are [n, channels, depth, height, width]; outputs run over lines: all rows of all depths. A
row holds, of some images and some lines, the entries that a kept position meets, and zeros for what
lies in the padding.

Bytes moved: 8 an entry of the rows to gather them, 12 to add them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from .jit import compiled, share

Triple = tuple[int, int, int]
_WORTH_A_THREAD = 1 << 18


@dataclass(frozen=True, eq=False)
class Kept:
    """Where the kept positions meet the images.

    `places` [kept, 5] has, channel after channel, the number of a position, its channel, and how
    far it lies from the first pixel in depth, height and width, which is negative in the padding.
    Those of a channel begin at `begins` [channels + 1]. `sizes` are those of an image, with its
    channels, and of the outputs, and the strides.
    """

    begins: NDArray[np.int64]
    places: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        kept: Tensor,
        image: tuple[int, ...],
        outputs: Triple,
        kernel: Triple,
        stride: Triple,
        padding: Triple,
        dilation: Triple,
    ) -> Self:
        """For `kept` columns of the GEMM view, integers in any order; `image` is [c, d, h, w]."""
        channel, *places = torch.unravel_index(kept.long(), (image[0], *kernel))
        walks = zip(places, dilation, padding, strict=True)
        far = [place * step - before for place, step, before in walks]
        order = channel.argsort(stable=True)
        table = torch.stack([order, *(part[order] for part in (channel, *far))], 1)
        begins = pad(torch.bincount(channel, minlength=image[0]).cumsum(0), (1, 0))
        sizes = np.array([*image, *outputs, *stride], np.int64)
        return cls(begins.numpy(), table.contiguous().numpy(), sizes)


def gather(x: Tensor, kept: Kept, image: int, line: int, rows: Tensor) -> None:
    """Write what the positions read to `rows` [kept, images, lines, width].

    From `image` and `line` on; x is all images. Both are float32 and contiguous.
    """
    source, base = x.view(-1).numpy(), image * x[0].numel()
    work = partial(_gather, source, kept.places, kept.sizes, base, line, rows.numpy())
    share(work, len(kept.places), rows.numel() // _WORTH_A_THREAD)


def scatter(rows: Tensor, kept: Kept, image: int, line: int, x: Tensor) -> None:
    """Add `rows` to x where `gather` reads them; what meets the padding is lost."""
    target, base = x.view(-1).numpy(), image * x[0].numel()
    arrays = rows.numpy(), kept.begins, kept.places, kept.sizes
    work = partial(_scatter, *arrays, base, line, target)
    share(work, x.shape[1], rows.numel() // _WORTH_A_THREAD)


@compiled()
def _inside(far: Any, step: Any, count: Any, size: Any) -> Any:
    """The outputs, from the first to the last, whose inputs lie inside of the image."""
    low = min(max(0, -(far // step)), count)
    return low, max(low, min(count, (size - 1 - far) // step + 1))


@compiled()
def _start(place: Any, line: Any, sizes: Any) -> Any:
    """Where in an image the row begins that a position reads for a line; -1 in the padding."""
    deep = line // sizes[5] * sizes[7] + place[2]
    down = line % sizes[5] * sizes[8] + place[3]
    if deep < 0 or deep >= sizes[1] or down < 0 or down >= sizes[2]:
        return np.int64(-1)
    return ((place[1] * sizes[1] + deep) * sizes[2] + down) * sizes[3]


@compiled("void(f4[::1], i8[:, ::1], i8[::1], i8, i8, f4[:, :, :, ::1], i8, i8)")
def _gather(
    x: Any, places: Any, sizes: Any, base: Any, line: Any, rows: Any, first: Any, end: Any
) -> None:
    image, step = sizes[0] * sizes[1] * sizes[2] * sizes[3], sizes[9]
    for each in range(first, end):
        place = places[each]
        low, high = _inside(place[4], step, sizes[6], sizes[3])
        for n in range(rows.shape[1]):
            for i in range(rows.shape[2]):
                target = rows[place[0], n, i]
                start = _start(place, line + i, sizes)
                if start < 0 or low == high:
                    target[:] = 0
                    continue
                target[:low] = 0
                target[high:] = 0
                source = x[base + n * image + start + low * step + place[4] :]
                inside = target[low:high]
                if step == 1:
                    for column in range(len(inside)):
                        inside[column] = source[column]
                else:
                    for column in range(len(inside)):
                        inside[column] = source[column * step]


@compiled("void(f4[:, :, :, ::1], i8[::1], i8[:, ::1], i8[::1], i8, i8, f4[::1], i8, i8)")
def _scatter(
    rows: Any,
    begins: Any,
    places: Any,
    sizes: Any,
    base: Any,
    line: Any,
    x: Any,
    first: Any,
    end: Any,
) -> None:
    image, step = sizes[0] * sizes[1] * sizes[2] * sizes[3], sizes[9]
    for channel in range(first, end):
        for n in range(rows.shape[1]):
            for each in range(begins[channel], begins[channel + 1]):
                place = places[each]
                low, high = _inside(place[4], step, sizes[6], sizes[3])
                for i in range(rows.shape[2]):
                    start = _start(place, line + i, sizes)
                    if start < 0 or low == high:
                        continue
                    target = x[base + n * image + start + low * step + place[4] :]
                    inside = rows[place[0], n, i, low:high]
                    if step == 1:
                        for column in range(len(inside)):
                            target[column] += inside[column]
                    else:
                        for column in range(len(inside)):
                            target[column * step] += inside[column]
