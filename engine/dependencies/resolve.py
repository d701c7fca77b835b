"""From a recording to classes of channels that go only together, and which are needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .ids import Components, Flags, Ids, varying
from .ledger import Frozen, Ledger
from .record import Recording

_ROUNDS = 20


@dataclass(frozen=True)
class Classes:
    """Classes of ids, each named by its lowest id.

    `full` and `same` are int64 [ids]: the class of what goes only together, and of what is one and
    the same channel; `tied` is like `full`, but without what only a removal ties. `needed` is bool
    [ids]. `reasons` says why a full class must stay.
    """

    full: Ids
    same: Ids
    tied: Ids
    needed: Flags
    reasons: dict[int, str]


def resolve(recording: Recording) -> Classes:
    """Draw all conclusions from a recording."""
    ledger = recording.ledger
    frozen = [f for f in ledger.frozen if not f.bit or f.bit & recording.alive]
    same = Components(ledger.count)
    _join(same, ledger.same)
    full = Components(ledger.count)
    full.labels = same.labels.copy()
    _join(full, ledger.tied)
    tied = Components(ledger.count)
    tied.labels = full.labels.copy()
    for small, large, _ in ledger.mixed:
        _overlay(tied, small, large)
    frozen += _settle(ledger, full)
    labels = full.labels
    reasons: dict[int, str] = {}
    needed = np.zeros(ledger.count, dtype=np.bool_)
    needed[0] = True
    for entry in frozen:
        ids = entry.ids[entry.ids != 0]
        for label in np.unique(labels[ids]).tolist():
            reasons.setdefault(label, entry.reason)
    needed[list(reasons)] = True
    read = np.zeros(ledger.count, dtype=np.bool_)
    for ids, spare in ledger.demands:
        read[labels[ids]] = True
        needed[labels[ids[~spare]]] = True
    # What nothing reads is no waste that pruning made; it stays as it is.
    needed |= ~read
    # A tensor without channels is no tensor: the first one of each stays.
    for part in ledger.arrays.values():
        if part.size and not needed[labels[part]].any():
            needed[labels[part.reshape(-1)[0]]] = True
    return Classes(labels, same.labels, tied.labels, needed[labels], reasons)


def _join(components: Components, pairs: Iterable[tuple[Ids, Ids]]) -> None:
    pairs = list(pairs)
    if pairs:
        left, right = (np.concatenate([p[side].reshape(-1) for p in pairs]) for side in (0, 1))
        components.join(left, right)


def _settle(ledger: Ledger, full: Components) -> list[Frozen]:
    """Tie what keeps tensors rectangular and their pieces equal; returns what can't be cut."""
    frozen: list[Frozen] = []
    mixed = list(ledger.mixed)
    for _ in range(_ROUNDS):
        before = full.labels.copy()
        for small, large, reason in list(mixed):
            frozen += _mix(full, small, large, reason)
        for part in ledger.grids:
            _square(full, part)
        for pieces, _ in ledger.halves:
            _balance(full, pieces)
        if np.array_equal(before, full.labels):
            break
    return frozen


def _mix(full: Components, small: Ids, large: Ids, reason: str) -> list[Frozen]:
    """A part that varies along fewer dimensions than the one it meets.

    Where the larger one's channels go only together along the dimensions that they share, it
    shrinks along the others, and the smaller one keeps its size. Else both shrink together.
    """
    shared = varying(small)
    labels = full.labels[large]
    if _constant(labels, shared) and not _constant(labels, varying(large) - shared):
        return [Frozen(small.reshape(-1), reason)]
    _overlay(full, small, large)
    return []


def _overlay(components: Components, left: Ids, right: Ids) -> None:
    one, two = np.broadcast_arrays(left, right)
    both = (one != 0) & (two != 0)
    components.join(one[both], two[both])


def _constant(labels: Ids, dims: Iterable[int]) -> bool:
    return all(np.array_equal(np.broadcast_to(labels.take([0], axis=d), labels.shape), labels)
               for d in dims)  # fmt: skip


def _square(full: Components, part: Ids) -> None:
    """Let a part shrink along one dimension only: the one that leaves the most choice."""
    dims = varying(part)
    labels = np.where(part == 0, -1, full.labels[part])
    if any(_constant(labels, dims - {d}) for d in dims):
        return
    best = max(dims, key=lambda d: part.shape[d])
    first = part
    for dim in dims - {best}:
        first = first.take([0], axis=dim)
    _overlay(full, first, part)


def _balance(full: Components, pieces: tuple[Ids, ...]) -> None:
    """Let equal pieces of a tensor lose equally many channels."""
    labels = [full.labels[piece] for piece in pieces]
    counts = [np.unique(piece, return_counts=True) for piece in labels]
    (names, numbers), rest = counts[0], counts[1:]
    if all(np.array_equal(names, n) and np.array_equal(numbers, m) for n, m in rest):
        return
    for piece in pieces[1:]:
        _overlay(full, pieces[0], piece)
