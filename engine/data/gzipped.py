"""MNIST and Fashion-MNIST as they are published: bytes in the IDX format, gzipped."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gzipped:
    """Images uint8 [n, h, w] and labels uint8 [n], by the names that torchvision gives them."""

    data: Tensor
    targets: Tensor


def files_of(folder: Path, train: bool) -> list[Path]:
    """The files of the images and labels in a folder; empty if they are not there gzipped alone."""
    part = "train" if train else "t10k"
    plain = [folder / f"{part}-images-idx3-ubyte", folder / f"{part}-labels-idx1-ubyte"]
    packed = [file.with_name(f"{file.name}.gz") for file in plain]
    unpacked = all(file.is_file() for file in plain)
    return packed if not unpacked and all(file.is_file() for file in packed) else []


def read(images: Path, labels: Path) -> Gzipped:
    """Read both; raises OSError, EOFError, zlib.error, struct.error or ValueError for a fault."""
    return Gzipped(_bytes(images, 3), _bytes(labels, 1))


def _bytes(path: Path, dimensions: int) -> Tensor:
    """Two zeros, 8 for bytes, the number of sizes, these as big-endian int32, and the values."""
    with gzip.open(path) as file:
        raw = bytearray(file.read())
    if raw[:4] != bytes((0, 0, 8, dimensions)):
        raise ValueError(f"{path.name} holds no bytes in IDX format")
    sizes = struct.unpack_from(f">{dimensions}i", raw, 4)
    values = torch.frombuffer(raw, dtype=torch.uint8, offset=4 + 4 * dimensions)
    if values.numel() != torch.Size(sizes).numel():
        raise ValueError(f"{path.name} does not hold as much as it says")
    return values.view(sizes)
