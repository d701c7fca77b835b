"""Tables of features: the HIGGS set, and other CSV files of numbers."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import BadInput
from .base import Data, InMemory
from .classes import held_out, labelled
from .request import Request
from .text import split_files

Array = npt.NDArray[np.float32]

_LABELS = ("label", "labels", "target", "class", "y")
_LINES = 1 << 16
_HIGGS_FEATURES = 28
_HIGGS_HELD = 22  # the last 500,000 of its 11,000,000 rows


def load_higgs(request: Request) -> Data:
    """The label, then 28 features; the last 22nd is held out, as in the publication.

    Baldi, Sadowski, Whiteson: Searching for exotic particles in high-energy physics with deep
    learning, 2014.
    """
    features, labels = _read(request.existing())
    if features.shape[1] != _HIGGS_FEATURES:
        raise BadInput(f"{request.name} has {features.shape[1]} features; HIGGS has 28")
    cut = len(labels) - max(1, len(labels) // _HIGGS_HELD)
    parts = [(features[:cut], labels[:cut]), (features[cut:], labels[cut:])]
    return _data(request, parts)


def load(request: Request) -> Data:
    """Numbers with a label in the column that is called so, else in the first.

    A fifth of a file is held out; a folder has ``train.csv`` and ``validation.csv``.
    """
    files = split_files(request.existing(), (".csv", ".csv.gz"))
    parts = [_read(file) for file in files.values()]
    if len(parts) == 1:
        features, labels = parts[0]
        parts = [(features[share], labels[share]) for share in held_out(labels, request.seed)]
    return _data(request, parts)


def _data(request: Request, parts: Sequence[tuple[Tensor, Tensor]]) -> Data:
    (features, labels), (others, held) = parts
    if features.shape[1] != others.shape[1]:
        raise BadInput(
            f"{request.name}: {features.shape[1]} features to train on, "
            f"but {others.shape[1]} to validate with"
        )
    shape = request.spec.shape
    if shape is not None and shape != features.shape[1:]:
        takes = f"{shape[0]} features" if len(shape) == 1 else f"{'×'.join(map(str, shape))} inputs"
        raise BadInput(
            f"{request.name} has {features.shape[1]} features, but the model takes {takes}"
        )
    classes = int(torch.cat([labels, held]).max()) + 1
    return labelled(request, InMemory(features, labels), InMemory(others, held), classes)


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Features, float32 [n, features], and labels, int64 [n], read piece by piece."""
    features: list[Array] = []
    labels: list[Array] = []
    rows = 0
    try:
        with _open(path) as file:
            first = file.readline()
            names = [word.strip().strip('"').lower() for word in first.split(",")]
            header = _is_header(names)
            column = next((i for i, name in enumerate(names) if name in _LABELS), 0)
            width = 0
            numbered = enumerate(file, 2) if header else enumerate(chain([first], file), 1)
            for lines in _pieces(numbered):
                piece = _numbers(lines, width)
                width = piece.shape[1]
                rows += len(piece)
                labels.append(piece[:, column].copy())
                features.append(np.delete(piece, column, axis=1))
        if not rows:
            raise ValueError("it holds no numbers")
    except (ValueError, OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise BadInput(f"{path} cannot be read as a table of numbers: {reason}") from None
    found = np.concatenate(labels)
    if not features[0].shape[1] or not (found == found.round()).all():
        raise BadInput(f"{path} has no column of class numbers; put it first or call it label")
    return torch.from_numpy(np.concatenate(features)), torch.from_numpy(found.astype(np.int64))


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _numbers(lines: Sequence[tuple[int, str]], width: int) -> Array:
    """float32 [lines, columns] of numbered lines; ValueError says which one is at fault, and why.

    `width` is the number of columns of the lines before, 0 without any.
    """
    try:
        found = np.loadtxt([line for _, line in lines], np.float32, delimiter=",", ndmin=2)
    except ValueError:
        raise ValueError(_fault(lines, width)) from None
    if found.shape[1] != (width or found.shape[1]):
        raise ValueError(_fault(lines, width))
    bad = ~np.isfinite(found).all(1)
    if bad.any():
        raise ValueError(f"line {lines[int(bad.argmax())][0]} has NaN or infinity")
    return found


def _fault(lines: Sequence[tuple[int, str]], width: int) -> str:
    for number, line in lines:
        words = line.split(",")
        width = width or len(words)
        if len(words) != width:
            return f"line {number} has {len(words)} columns, and the lines before it {width}"
        for word in words:
            if _is_header([word]):
                return f"line {number} has '{word.strip()}', which is no number"
    return f"lines {lines[0][0]} to {lines[-1][0]} are no numbers"


def _pieces(lines: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Numbered lines without comments, many at a time and without those that are empty."""
    bare = ((number, line.partition("#")[0].strip()) for number, line in lines)
    filled = ((number, line) for number, line in bare if line)
    while piece := list(islice(filled, _LINES)):
        yield piece


def _is_header(words: list[str]) -> bool:
    try:
        [float(word) for word in words]
    except ValueError:
        return True
    return False
