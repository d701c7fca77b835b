"""Labelled examples put together: a part of them held out, their labels checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..errors import BadInput
from .base import Data, Split
from .request import Request

_SHARE = 0.2


def held_out(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the examples to train on and of a fifth of each class to validate with.

    A class of one example is only trained on. Both come in ascending order.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        count = min(max(1, round(_SHARE * len(members))), len(members) - 1)
        chosen[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()


class Labelled(Split, Protocol):
    """Examples whose labels, int64 [n], are known without reading the inputs."""

    @property
    def labels(self) -> Tensor: ...


def labelled(
    request: Request,
    train: Labelled,
    validation: Labelled,
    classes: int,
    names: Sequence[str] = (),
    notes: tuple[str, ...] = (),
) -> Data:
    """Both splits as data, with a note on classes that validation lacks.

    `names` are the classes', where they have any. Raises BadInput for an empty split and for labels
    outside of 0…classes-1.
    """
    checked = _checked(request.name, train.labels, validation.labels, classes, names)
    workers = request.number("workers", 0)
    return Data(request.name, train, validation, classes, (*notes, *checked), workers)


def _checked(
    name: str, train: Tensor, validation: Tensor, classes: int, names: Sequence[str]
) -> tuple[str, ...]:
    for words, labels in (("to train on", train), ("to validate with", validation)):
        if len(labels) == 0:
            raise BadInput(f"{name} holds no examples {words}")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            wrong = low if low < 0 else high
            raise BadInput(f"{name} has label {wrong}; labels must lie in 0…{classes - 1}")
    present = set(validation.unique().tolist())
    missing = [label for label in range(classes) if label not in present]
    if not missing:
        return ()
    listed = ", ".join(names[label] if names else str(label) for label in missing[:5])
    more = ", …" if len(missing) > 5 else ""
    what, them = ("class", "it") if len(missing) == 1 else ("classes", "them")
    return (
        f"validation has no example of {len(missing)} {what} ({listed}{more}), so the accuracy "
        f"says nothing about {them}",
    )
