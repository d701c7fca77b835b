"""A folder that holds one folder of images for each class."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..errors import BadInput
from .base import Data
from .classes import held_out, labelled
from .images import ENDINGS, Images
from .preprocessing import for_images
from .request import SPLITS, Request


def load(request: Request) -> Data:
    """Images below ``train/CLASS/`` and ``val/CLASS/``, or below ``CLASS/``, a fifth held out.

    Raises BadInput for a folder without classes or a class without images.
    """
    root = request.existing()
    if not root.is_dir():
        raise BadInput(f"{request.name}: {root} is a file, not a folder of class folders")
    train, validation = (_split_folder(root, split) for split in ("train", "validation"))
    names = _class_names(train or root)
    files, labels = _files(train or root, names)
    if train is None:
        if validation is not None:
            raise BadInput(f"{root} has {validation.name}/ but no train/ beside it")
        kept, held = held_out(labels, request.seed)
        parts = [([files[i] for i in part.tolist()], labels[part]) for part in (kept, held)]
    elif validation is None:
        raise BadInput(f"{root} has train/ but no val/ beside it to validate with")
    else:
        parts = [(files, labels), _files(validation, names, gaps=True)]
    preprocessing = for_images(request)
    kept_out = Images(*parts[1], preprocessing)
    return labelled(request, Images(*parts[0], preprocessing), kept_out, len(names), names)


def _split_folder(root: Path, split: str) -> Path | None:
    return next((root / name for name in SPLITS[split] if (root / name).is_dir()), None)


def _class_names(root: Path) -> list[str]:
    """The folders in `root` in the order of their names, which is that of the class numbers."""
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise BadInput(f"{root} has no class folders; put the images of each class into one")
    return names


def _files(root: Path, names: list[str], *, gaps: bool = False) -> tuple[list[Path], Tensor]:
    """All images and their labels; `gaps` allows classes without any."""
    strange = sorted({p.name for p in root.iterdir() if p.is_dir()} - set(names))
    if strange and not strange[0].startswith("."):
        raise BadInput(f"{root} has a class '{strange[0]}' that the training images lack")
    files: list[Path] = []
    counts = []
    for name in names:
        folder = root / name
        found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS)
        if not found and not gaps:
            raise BadInput(f"{folder} holds no images ({', '.join(ENDINGS)})")
        files += found
        counts.append(len(found))
    return files, torch.arange(len(names)).repeat_interleave(torch.tensor(counts))
