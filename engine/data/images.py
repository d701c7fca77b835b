"""Images that are decoded when their turn comes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..errors import BadInput
from .inputs import Batch
from .preprocessing import Preprocessing

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Images:
    """Image files, or their bytes; `labels` is int64 [n]."""

    files: Sequence[Path | bytes]
    labels: Tensor
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Tensor, augment: torch.Generator | None = None) -> Batch:
        """See `Split.take`; raises BadInput that names a file which is no image."""
        images = [self._image(number, augment) for number in chosen.tolist()]
        return torch.stack(images), self.labels[chosen]

    def _image(self, number: int, augment: torch.Generator | None) -> Tensor:
        file = self.files[number]
        try:
            with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
                return self.preprocessing.image(image, augment)
        except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
            what = f"image {number}" if isinstance(file, bytes) else str(file)
            raise BadInput(f"{what} cannot be read as an image: {_reason(error)}") from None
        except Image.DecompressionBombError:
            raise BadInput(f"{file!s:.200} is too large for an image") from None


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "its format is unknown"
    return str(error).split("\n")[0]
