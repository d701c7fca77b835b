"""Tensors that share memory: what is written into one is seen in the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .call import Call
from .ids import Ids, compressed
from .ledger import Ledger, State


class Aliases:
    """Keeps the states of all views of a storage in step."""

    def __init__(self, states: Any) -> None:
        self._states = states
        self._views: dict[int, Any] = {}

    def add(self, tensor: Tensor) -> None:
        """Note a tensor that has a state."""
        views = self._views.get(_storage(tensor))
        if views is None:
            views = self._views[_storage(tensor)] = WeakTensorKeyDictionary()
        views[tensor] = None

    def written(self, tensor: Tensor, state: State, ledger: Ledger, call: Call) -> None:
        """An operation left `state` in `tensor`; other views of its memory now hold it too."""
        before: State | None = self._states.get(tensor)
        views = self._views.get(_storage(tensor), ())
        others = [v for v in list(views) if v is not tensor and v in self._states]
        same = before is not None and _same_parts(before.parts, state.parts)
        for other in others:
            known: State = self._states[other]
            fresh = replace(known, zero=None, past=known.past | state.past, seen=(), end=None,
                            data=known.data or state.data, origin=None)  # fmt: skip
            if not same and (known.parts or state.parts):
                fresh = replace(fresh, parts=_merged(tensor, state, other, known, ledger, call))
            self._states[other] = fresh


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _same_parts(left: tuple[Ids, ...], right: tuple[Ids, ...]) -> bool:
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))


def _merged(
    tensor: Tensor, state: State, other: Tensor, known: State, ledger: Ledger, call: Call
) -> tuple[Ids, ...]:
    """The parts of `other` after those of `state` were written into `tensor`.

    Several parts at once can't be laid over each other; then all of them stay.
    """
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    plain = len(state.parts) < 2 and len(known.parts) < 2
    if not plain or tensor.dtype != other.dtype or size > 1 << 24:
        for one in (state, known):
            call.freeze_all(one, f"it is written over in {call.where}")
        return ()
    ledger.spend(size)
    memory = np.zeros(size, dtype=np.int64)
    for view, what in ((other, known), (tensor, state)):
        ids = what.parts[0] if what.parts else np.zeros([1] * view.dim(), dtype=np.int64)
        memory[_places(view)] = ids
    return tuple(ledger.keep(p) for p in [compressed(memory[_places(other)])] if p.size > 1)


def _places(tensor: Tensor) -> Ids:
    """Where each entry lies in the storage, int64 in the tensor's shape."""
    places: Ids = np.full([1] * tensor.dim(), tensor.storage_offset(), dtype=np.int64)
    for dim, (n, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        sizes = [1] * tensor.dim()
        sizes[dim] = n
        places = places + (np.arange(n) * stride).reshape(sizes)
    return places
