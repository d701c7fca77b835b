"""Read the bundled digits, and shift them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from . import DIGITS

CLASSES = 10


def read(split: str) -> tuple[Tensor, Tensor]:
    """The images, float32 [n, 1, 8, 8] in 0…1, and labels, int64 [n], of a split.

    `split` is ``"train"`` (1,438 images) or ``"validation"`` (359), which were drawn once, class
    by class, when the file was made.
    """
    with np.load(DIGITS, allow_pickle=False) as file:
        chosen = file[split]
        images, labels = file["images"][chosen], file["labels"][chosen]
    inputs = torch.from_numpy(images.astype(np.float32) / 16)
    return inputs.unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move each image [n, c, h, w] by -1, 0 or 1 pixels each way; what comes in is zero."""
    count, channels, height, width = images.shape
    down, right = torch.randint(0, 3, (2, count, 1), generator=generator)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    rows = (down + torch.arange(height))[:, None, :, None]
    columns = (right + torch.arange(width))[:, None, None, :]
    image = torch.arange(count)[:, None, None, None]
    return padded[image, torch.arange(channels)[:, None, None], rows, columns]
