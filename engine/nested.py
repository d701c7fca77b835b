"""Nested masks (S4): several levels over one set of weights, kept bit-packed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..kernels.formats import LevelIndex
from .errors import BadInput
from .files import check_readable, replacing
from .masks import Masks

FILE = "levels.safetensors"
"""Name of the levels' file in a project's folder."""


@dataclass(frozen=True)
class Levels:
    """Masks over one set of weights, loosest first, each inside the one before it.

    `sparsities` are what was asked for.
    """

    sparsities: tuple[float, ...]
    masks: tuple[Masks, ...]

    def save(self, path: Path) -> None:
        """Write which level each weight goes at, in as few bits as it takes."""
        from safetensors.torch import save_file

        tensors, along = {}, {}
        for key in _keys(self.masks[0]):
            kept = _of(self.masks[0], key)
            ranks = ranks_of([_of(masks, key) for masks in self.masks])
            index = LevelIndex.of(ranks, kept, len(self.masks))
            tensors[key], along[key] = index.packed, index.along
        about = json.dumps({"sparsities": self.sparsities, "along": along})
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata={"levels": about})

    @classmethod
    def load(cls, path: Path, loosest: Masks) -> Levels:
        """Read what `save` wrote, inside the masks of the loosest level.

        Raises BadInput for anything else.
        """
        from safetensors import SafetensorError, safe_open

        check_readable(path)
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})["levels"])
                sparsities = tuple(map(float, about["sparsities"]))
                found = [Masks() for _ in sparsities]
                for key in _keys(loosest):
                    kept = _of(loosest, key)
                    meta = {"levels": len(sparsities), "along": about["along"][key]}
                    ranks = LevelIndex.from_part(file.get_tensor(key), meta).ranks(kept)
                    for level, masks in enumerate(found):
                        kind, _, name = key.partition(":")
                        flags = masks.layers if kind == "layer" else masks.vectors
                        flags[name] = kept & (ranks >= level)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise BadInput(f"{path}: the levels cannot be read: {error}") from None
        return cls(sparsities, tuple(found))


def ranks_of(masks: list[Tensor]) -> Tensor:
    """uint8, in the shape of the bool `masks`, loosest first: the strictest level that keeps it.

    0 where none does.
    """
    ranks = torch.zeros_like(masks[0], dtype=torch.uint8)
    for mask in masks[1:]:
        ranks += mask
    return ranks


def _keys(masks: Masks) -> list[str]:
    return [*(f"layer:{name}" for name in masks.layers), *(f"vector:{n}" for n in masks.vectors)]


def _of(masks: Masks, key: str) -> Tensor:
    kind, _, name = key.partition(":")
    return (masks.layers if kind == "layer" else masks.vectors)[name]
