"""CIFAR-10, MNIST, Fashion-MNIST and ImageNet in torchvision's layout."""

from __future__ import annotations

import pickle
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import BadInput
from . import folder, gzipped
from .base import Data
from .classes import labelled
from .images import Images
from .inputs import Batch
from .preprocessing import Preprocessing, for_images, for_pixels
from .request import Request


@dataclass(frozen=True)
class _Set:
    """One of torchvision's sets in memory; `flip`: a mirrored image is of the same class."""

    loader: str
    inside: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool


_CLASSES = 10
# Means and deviations over the training images, as customary for these sets.
_SETS = {
    "cifar10": _Set(
        "CIFAR10", "cifar-10-batches-py", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), True
    ),
    "mnist": _Set("MNIST", "MNIST/raw", (0.1307,), (0.3081,), False),
    "fashion-mnist": _Set("FashionMNIST", "FashionMNIST/raw", (0.2860,), (0.3530,), True),
}


DOWNLOADS = tuple(_SETS)
"""What torchvision can fetch; ImageNet takes an account."""


@dataclass(frozen=True)
class Pixels:
    """Small images in memory, uint8 [n, c, h, w]; they vary by up to an eighth and by side."""

    images: Tensor
    labels: Tensor
    preprocessing: Preprocessing
    flip: bool

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Tensor, augment: torch.Generator | None = None) -> Batch:
        """See `Split.take`."""
        images = self.images[chosen]
        if augment is not None:
            images = self._varied(images, augment)
        return self.preprocessing.pixels(images), self.labels[chosen]

    def _varied(self, images: Tensor, augment: torch.Generator) -> Tensor:
        count, channels, height, width = images.shape
        pad = height // 8
        down, right = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=augment)
        rows = (down + torch.arange(height))[:, None, :, None]
        columns = (right + torch.arange(width)).expand(count, -1)
        if self.flip:
            mirrored = torch.randint(0, 2, (count, 1), generator=augment).bool()
            columns = torch.where(mirrored, columns.flip(1), columns)
        padded = torch.nn.functional.pad(images, (pad, pad, pad, pad))
        image = torch.arange(count)[:, None, None, None]
        return padded[image, torch.arange(channels)[:, None, None], rows, columns[:, None, None, :]]


def load(request: Request, kind: str) -> Data:
    """The set called `kind`; what torchvision calls its test set is validated with.

    Raises BadInput that says how to get it where it is missing.
    """
    known = _SETS[kind]
    parts = []
    for train in (True, False):
        found = _read(request, kind, train)
        images = torch.as_tensor(found.data)
        images = images.permute(0, 3, 1, 2) if images.dim() == 4 else images.unsqueeze(1)
        _, channels, height, width = images.shape
        statistics = (known.mean, known.std)
        preprocessing = for_pixels(request, (channels, height, width), statistics)
        labels = torch.as_tensor(found.targets).long()
        parts.append(Pixels(images.contiguous(), labels, preprocessing, known.flip))
    return labelled(request, parts[0], parts[1], _CLASSES)


def load_imagenet(request: Request) -> Data:
    """ImageNet's folders ``train`` and ``val``, with the development kit's archive or without."""
    from torchvision import datasets

    root = request.existing()
    archives = ("meta.bin", "ILSVRC2012_devkit_t12.tar.gz")
    if not any((root / name).is_file() for name in archives):
        return folder.load(request)
    preprocessing = for_images(request)
    parts = []
    for split in ("train", "val"):
        found = _guarded(partial(datasets.ImageNet, str(root), split), request, root)
        files = [Path(path) for path, _ in found.imgs]
        parts.append(Images(files, torch.tensor(found.targets), preprocessing))
    return labelled(request, parts[0], parts[1], len(found.wnids), found.wnids)


def fetch(request: Request, kind: str) -> None:
    """Download the set called `kind` unless it is there."""
    for train in (True, False):
        _read(request, kind, train, download=True)


def _read(request: Request, kind: str, train: bool, download: bool = False) -> Any:
    from torchvision import datasets

    known = _SETS[kind]
    place = request.path / known.inside
    if not download and not place.is_dir():
        raise BadInput(
            f"{request.name}: there is no {place}; nothing is downloaded unless you ask for it "
            f"with --download or {kind}:{request.path}?download=1"
        )
    if not download and (files := gzipped.files_of(place, train)):
        return _guarded(partial(gzipped.read, *files), request, place)
    loader: Callable[..., Any] = getattr(datasets, known.loader)
    read = partial(loader, request.path, train=train, download=download)
    return _guarded(read, request, place)


def _guarded(read: Callable[[], Any], request: Request, place: Path) -> Any:
    """What `read` gives; torchvision's many errors become one sentence."""
    try:
        return read()
    except (
        RuntimeError, OSError, ValueError, KeyError, AssertionError, EOFError, pickle.PickleError,
        struct.error, zlib.error,
    ) as error:  # fmt: skip
        reason = str(error).strip().split("\n")[0]
        if "download=True" in reason or not reason:  # what torchvision says of its own argument
            reason = "files are missing or damaged"
        raise BadInput(f"{request.name}: {place} cannot be read: {reason}") from None
