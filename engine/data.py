"""Data for retraining and evaluating, by address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..resources.samples import digits
from .errors import BadInput, nearest

Split = tuple[Tensor, Tensor]
"""Inputs, float32 [n, c, h, w], and labels, int64 [n]."""

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Changes a batch of inputs at random; draws only from the generator that it is given."""


@dataclass(frozen=True)
class Data:
    """Labelled examples in memory, on the CPU.

    `train` and `validation` are disjoint; nothing is ever fitted to `validation`. `augment`
    changes a training batch without changing its labels; None: there is nothing to do.
    """

    name: str
    train: Split
    validation: Split
    classes: int
    augment: Augment | None = None

    def split(self, name: str) -> Split:
        """The split called ``"train"`` or ``"validation"``; raises ValueError for another name."""
        if name not in ("train", "validation"):
            raise ValueError(f"no split '{name}'")
        return self.train if name == "train" else self.validation

    def steps(self, split: str, batch_size: int) -> int:
        """How many batches one epoch has; the last one may be smaller."""
        return -(-len(self.split(split)[1]) // batch_size)

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = False,
        augment: bool = False,
    ) -> Iterator[Split]:
        """All examples of a split once, `batch_size` at a time.

        Order and augmentation depend only on `seed` and `epoch`, both at least 0, so that a resumed
        run sees the batches that it would have seen.
        """
        inputs, labels = self.split(split)
        generator = torch.Generator().manual_seed(_mixed(seed, epoch))
        count = len(labels)
        order = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
        for chosen in order.split(batch_size):
            batch = inputs[chosen]
            if augment and self.augment is not None:
                batch = self.augment(batch, generator)
            yield batch, labels[chosen]


def _mixed(seed: int, epoch: int) -> int:
    """One seed for the pair; ``seed + epoch`` would give two runs the same epochs, shifted."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    return int(state[0])


def _digits() -> Data:
    train, validation = digits.read("train"), digits.read("validation")
    return Data("sample:digits", train, validation, digits.CLASSES, digits.shift)


_LOADERS: dict[str, Callable[[], Data]] = {"sample:digits": _digits}


def load_data(address: str) -> Data:
    """Load the data at an address such as ``sample:digits``.

    Raises BadInput that names the nearest known address.
    """
    loader = _LOADERS.get(address)
    if loader is None:
        raise BadInput(f"unknown data '{address}'{nearest(address, _LOADERS)}")
    return loader()
