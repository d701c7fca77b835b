"""What a recording learns of channels: which are the same, which go together, which must stay."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from .ids import Flags, Ids, Shape, varying


class TooLarge(Exception):
    """More ids than the recording may hold."""


@dataclass(frozen=True)
class State:
    """What is known of one tensor while the model runs.

    `parts` are its channels (see ids.py). `zero` is a bool array that broadcasts to the shape, True
    where the tensor is zero for every input of the model; None where nothing is known to be.
    `past` has a bit for each event (a layer, a demand that channels stay) that it depends on.
    `data` says that it depends on the model's input. `origin` names the parameter or buffer whose
    values it holds, `seen` the weights whose outputs, whole and in order, its channels are, `end`
    the weight without which it would be zero. `why` says why it has no channels.
    `tensor` is the tensor itself where it is a constant of the model's code, while a rule runs.
    """

    shape: Shape
    parts: tuple[Ids, ...] = ()
    zero: Flags | None = None
    past: int = 0
    data: bool = False
    origin: str | None = None
    seen: tuple[str, ...] = ()
    end: str | None = None
    why: str = ""
    tensor: Tensor | None = None


@dataclass(frozen=True)
class Frozen:
    """Ids that must stay if the event `bit` matters for the model's output; 0: always."""

    ids: Ids
    reason: str
    bit: int = 0


@dataclass
class Ledger:
    """Collects facts; resolve.py draws the conclusions.

    `same` pairs ids of one and the same channel, `tied` those that only go together. `frozen` may
    not be removed, `stiff` not be put in another order. `demands` are readings of channels, with
    what the reader could do without. The last dimension layouts are settled at the end: `grids`
    must stay rectangular, `halves` lists equal pieces of one tensor that must stay equal, `mixed`
    pairs of parts of which one varies along fewer dimensions. `attention` are channels that take
    part in products of activations, `arrays` all parts of all tensors, `layers` has the bit of each
    weight.
    """

    limit: int = 200_000_000
    count: int = 1
    same: list[tuple[Ids, Ids]] = field(default_factory=list)
    tied: list[tuple[Ids, Ids]] = field(default_factory=list)
    frozen: list[Frozen] = field(default_factory=list)
    stiff: list[tuple[Ids, str]] = field(default_factory=list)
    demands: list[tuple[Ids, Flags]] = field(default_factory=list)
    grids: list[Ids] = field(default_factory=list)
    halves: list[tuple[tuple[Ids, ...], str]] = field(default_factory=list)
    mixed: list[tuple[Ids, Ids, str]] = field(default_factory=list)
    attention: list[Ids] = field(default_factory=list)
    arrays: dict[int, Ids] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)
    _bits: itertools.count[int] = field(default_factory=itertools.count)
    _held: int = 0

    def fresh(self, size: int) -> Ids:
        """New ids, int64 [size]."""
        start, self.count = self.count, self.count + size
        return np.arange(start, self.count)

    def event(self) -> int:
        """A new bit for `State.past`."""
        return 1 << next(self._bits)

    def keep(self, part: Ids) -> Ids:
        """Note a part that some tensor has. Raises TooLarge beyond the limit."""
        if id(part) not in self.arrays:
            self.arrays[id(part)] = part
            self.spend(part.size)
        return part

    def spend(self, size: int) -> None:
        """Count ids that are written out. Raises TooLarge beyond the limit."""
        self._held += size
        if self._held > self.limit:
            raise TooLarge

    def freeze(self, ids: Ids, reason: str, bit: int = 0, order: bool = True) -> None:
        """These channels must stay; with `order`, in their order too."""
        self.frozen.append(Frozen(ids, reason, bit))
        if order:
            self.stiff.append((ids, reason))

    def unite(self, left: Ids, right: Ids, reason: str, bit: int) -> None:
        """Position by position, after broadcasting, these are the same channels.

        Where only one of them has a channel it must stay, for `reason`.
        """
        if left is right:
            return
        one, two = np.broadcast_arrays(left, right)
        self.spend(one.size)
        alone = (one == 0) != (two == 0)
        if alone.any():
            self.freeze(np.where(one == 0, two, one)[alone], reason, bit)
        both = (one != 0) & (two != 0) & (one != two)
        if both.any():
            pairs = self.same if varying(left) == varying(right) else self.tied
            pairs.append((one[both], two[both]))

    def tie(self, part: Ids, dims: frozenset[int]) -> None:
        """Along `dims` the channels of a part go only together."""
        first = part
        for dim in dims:
            first = first.take([0], axis=dim)
        one, two = np.broadcast_arrays(first, part)
        self.spend(one.size)
        both = (one != 0) & (two != 0) & (one != two)
        self.tied.append((one[both], two[both]))

    def hold(self, part: Ids, dim: int, reason: str, bit: int, order: bool = True) -> None:
        """Along `dim` the tensor must keep its size, unless all of it goes by another dimension."""
        rest = varying(part) - {dim}
        if rest:
            self.tie(part, frozenset({dim}))
            if order:
                self.stiff.append((part.reshape(-1), reason))
        else:
            self.freeze(part.reshape(-1), reason, bit, order)
