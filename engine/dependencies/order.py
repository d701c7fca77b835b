"""Putting the channels that a layer reads in another order, with all that hangs on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from .ids import Flags, Ids
from .record import Recording
from .resolve import Classes


@dataclass(frozen=True)
class Place:
    """One dimension of a parameter that holds the channels.

    `channel` says for each of its positions, int64 [size], which channel is there; -1: another.
    """

    name: str
    dim: int
    channel: Ids


@dataclass(frozen=True)
class Order:
    """Which parameters change together when a layer's input channels change their order.

    There are `size` channels. Each may move only within its run of `run` consecutive ones (an
    attention head, or all of them). `readers` are the layers that read them.
    """

    size: int
    run: int
    places: tuple[Place, ...]
    readers: tuple[str, ...]

    def indices(self, permutation: Ids) -> Iterator[tuple[str, int, Ids]]:
        """(name, dim, index) for each parameter: ``new = old.index_select(dim, index)``.

        `permutation` is int64 [size]: the channel that comes to each place. Raises ValueError for
        one that is none or moves a channel out of its run.
        """
        given = np.asarray(permutation)
        if not np.array_equal(np.sort(given), np.arange(self.size)):
            raise ValueError(f"not a permutation of {self.size} channels")
        if not np.array_equal(given // self.run, np.arange(self.size) // self.run):
            raise ValueError(f"channels may move only within runs of {self.run}")
        for place in self.places:
            yield place.name, place.dim, _moved(place.channel, given)


def _moved(channel: Ids, permutation: Ids) -> Ids:
    """The position that each position takes its entry from."""
    index = np.arange(len(channel))
    held = np.flatnonzero(channel >= 0)
    order = held[np.argsort(channel[held], kind="stable")]
    # The n-th place of a channel takes from the n-th place of the channel that comes there.
    by_channel = order.reshape(len(permutation), -1)
    index[by_channel.reshape(-1)] = by_channel[permutation].reshape(-1)
    return index


def find_order(
    recording: Recording, classes: Classes, ids: Ids, inputs: Mapping[str, tuple[str, int]]
) -> Order | str:
    """The order of the channels `ids` [inputs of a layer], or why it can't change exactly.

    `inputs` says for each layer which dimension of which parameter has its inputs.
    """
    same, tied = classes.same, classes.tied
    labels, first = np.unique(same[ids], return_index=True)
    if (ids == 0).any():
        return "some of its inputs are no channels"
    labels = labels[np.argsort(first)]
    members = np.zeros(len(same), dtype=np.bool_)
    members[labels] = True
    for stiff, reason in recording.ledger.stiff:
        if members[same[stiff]].any():
            return reason
    number = np.full(len(same), -1, dtype=np.int64)
    number[labels] = np.arange(len(labels))
    run = _run(tied[labels])
    if run is None:
        return "some of its channels go only together with others"
    seen: set[bytes] = set()
    for part in recording.ledger.arrays.values():
        channel = number[same[part.reshape(-1)]]
        channel = channel[channel >= 0]
        if not len(channel) or (key := channel.tobytes()) in seen:
            continue
        seen.add(key)
        if not _whole(channel, len(labels), run):
            return "some of its channels are used apart from the others"
    places = []
    for name, dims in recording.dims.items():
        for dim, known in enumerate(dims):
            if known is None:
                continue
            channel = number[same[known]]
            if (channel >= 0).any():
                if len(channel[channel >= 0]) % len(labels):
                    return "some of its channels are used apart from the others"
                places.append(Place(name, dim, channel))
    held = {(place.name, place.dim) for place in places}
    readers = tuple(path for path, where in inputs.items() if where in held)
    return Order(len(labels), run, tuple(places), readers)


def _run(tied: Ids) -> int | None:
    """The length of equal runs of channels that go only together; all of them if none do."""
    if len(np.unique(tied)) == len(tied):
        return len(tied)
    starts = np.flatnonzero(np.diff(tied, prepend=-1))
    size, rest = divmod(len(tied), len(starts))
    even = not rest and np.array_equal(starts, np.arange(0, len(tied), size))
    return size if even and size > 1 else None


def _whole(channel: Ids, count: int, run: int) -> bool:
    """Whether each run occurs whole and in order, tiled or with every channel repeated."""
    block = channel // run
    for start in np.unique(block).tolist():
        here = channel[block == start] - start * run
        times, rest = divmod(len(here), run)
        if rest:
            return False
        repeat = int(np.argmax(here != here[0])) or len(here)
        if times % repeat:
            return False
        right: Flags = np.array_equal(  # type: ignore[assignment]
            here, np.tile(np.repeat(np.arange(run), repeat), times // repeat)
        )
        if not right:
            return False
    return True
