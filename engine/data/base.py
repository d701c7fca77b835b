"""Labelled examples in two splits, and their batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .inputs import Batch, Inputs
from .prefetch import in_order

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Changes a batch of inputs at random; draws only from the generator that it is given."""


class Split(Protocol):
    """Examples that can be taken in any order."""

    def __len__(self) -> int: ...

    def take(self, chosen: Tensor, augment: torch.Generator | None = None) -> Batch:
        """The examples numbered by `chosen`, int64 [n]; changed at random by `augment` if given.

        Depends on nothing but the arguments. Raises BadInput for an example that cannot be read.
        """
        ...


@dataclass(frozen=True)
class InMemory:
    """Examples held in tensors; `augment` None: there is nothing to change at random."""

    inputs: Inputs
    labels: Tensor
    augment: Augment | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Tensor, augment: torch.Generator | None = None) -> Batch:
        """See `Split.take`."""
        if not isinstance(self.inputs, Tensor):
            return {k: v[chosen] for k, v in self.inputs.items()}, self.labels[chosen]
        inputs = self.inputs[chosen]
        if augment is not None and self.augment is not None:
            inputs = self.augment(inputs, augment)
        return inputs, self.labels[chosen]


@dataclass(frozen=True)
class Data:
    """Labelled examples, on the CPU.

    `train` and `validation` are disjoint; nothing is ever fitted to `validation`. `classes` is 0
    where only the examples themselves can tell. `notes` are sentences for the person. `workers`
    threads make batches ahead of time; the batches do not depend on how many.
    """

    name: str
    train: Split
    validation: Split
    classes: int
    notes: tuple[str, ...] = ()
    workers: int = 0

    def split(self, name: str) -> Split:
        """The split called ``"train"`` or ``"validation"``; raises ValueError for another name."""
        if name not in ("train", "validation"):
            raise ValueError(f"no split '{name}'")
        return self.train if name == "train" else self.validation

    def steps(self, split: str, batch_size: int) -> int:
        """How many batches one epoch has; the last one may be smaller."""
        return -(-len(self.split(split)) // batch_size)

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = False,
        augment: bool = False,
        first: int = 0,
        most: int | None = None,
    ) -> Iterator[Batch]:
        """All examples of a split once, `batch_size` at a time, or only the `most` first of them.

        A batch depends only on `seed`, `epoch` (both at least 0) and its number, so that a resumed
        run sees the batches that it would have seen: it begins with number `first`, and nothing is
        read for those before.
        """
        part = self.split(split)
        generator = torch.Generator().manual_seed(_mixed(seed, epoch))
        count = len(part)
        order = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
        chosen = order[:most].split(batch_size)

        def make(index: int) -> Batch:
            if not augment:
                return part.take(chosen[index])
            own = torch.Generator().manual_seed(_mixed(seed, epoch, index))
            return part.take(chosen[index], own)

        yield from in_order(make, range(first, len(chosen)), self.workers)


def _mixed(*numbers: int) -> int:
    """One seed for several; ``seed + epoch`` would give two runs the same epochs, shifted."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return int(state[0])
