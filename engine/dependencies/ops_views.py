"""Views and copies: the same is done to the ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from .call import Call, padded
from .ids import Shape, reshaped, varying
from .ledger import State

Rule = Callable[[Call], State | list[State] | None]


def _same(call: Call) -> State:
    """Copies, casts, and what gives its operand back."""
    return call.first()


def _reshape(call: Call) -> State:
    state = call.first()
    after = tuple(call.outputs[0].shape)
    parts = []
    for part in state.parts:
        if prod(after) > 0:
            new = call.ledger.keep(reshaped(part, state.shape, after))
            if len(varying(new)) > len(varying(part)):
                call.ledger.grids.append(new)
            parts.append(new)
    zero = None if state.zero is None else reshaped(state.zero, state.shape, after)
    return replace(state, shape=after, parts=tuple(parts), zero=zero)


def _permute(call: Call) -> State:
    state = call.first()
    dims = [d % len(state.shape) for d in call["dims"]]
    return moved(call, state, tuple(call.outputs[0].shape), lambda p: p.transpose(dims))


def _transpose(call: Call) -> State:
    state = call.first()
    rank = len(state.shape)
    if rank < 2:
        return state
    one, two = (0, 1) if call.name in ("t", "t_") else (call.dim("dim0"), call.dim("dim1"))
    return moved(call, state, tuple(call.outputs[0].shape), lambda p: p.swapaxes(one, two))


def _unsqueeze(call: Call) -> State:
    state, after = call.first(), tuple(call.outputs[0].shape)
    dim = call.dim(rank=len(after))
    return moved(call, state, after, lambda p: np.expand_dims(p, dim))


def _expand(call: Call) -> State:
    after = tuple(call.outputs[0].shape)
    return replace(padded(call.first(), len(after)), shape=after)


def _repeat(call: Call) -> State:
    after = tuple(call.outputs[0].shape)
    state = padded(call.first(), len(after))
    times = [n // size if size else 1 for n, size in zip(after, state.shape, strict=True)]

    def move(array: Any) -> Any:
        counts = [t if n > 1 else 1 for t, n in zip(times, array.shape, strict=True)]
        return np.tile(array, counts)

    return moved(call, state, after, move)


def _as_strided(call: Call) -> State | None:
    """Only a change of memory format."""
    state = call.first()
    if tuple(call["size"]) != state.shape or sum(n > 1 for n in state.shape) > 1:
        return None
    return state


def _like(call: Call) -> State:
    """A tensor of one constant made after another: it follows that one's size."""
    state = call.first()
    return State(state.shape, state.parts)


def moved(call: Call, state: State, shape: Shape, move: Callable[[Any], Any]) -> State:
    """The state after `move` was done to the compressed parts and zeros."""
    parts = tuple(call.ledger.keep(move(part)) for part in state.parts)
    zero = None if state.zero is None else move(state.zero)
    return replace(state, shape=shape, parts=tuple(p for p in parts if varying(p)), zero=zero)


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ["alias", "detach", "clone", "_to_copy", "contiguous", "lift_fresh", "lift_fresh_copy",
         "dropout", "positive", "resolve_conj", "resolve_neg", "requires_grad_", "detach_",
         "native_dropout", "feature_dropout", "_conj", "to"], _same),
    **dict.fromkeys(["view", "_unsafe_view", "reshape", "squeeze", "squeeze_", "_reshape_alias",
                     "flatten", "unflatten"], _reshape),
    "permute": _permute,
    **dict.fromkeys(["t", "t_", "transpose", "transpose_"], _transpose),
    **dict.fromkeys(["unsqueeze", "unsqueeze_"], _unsqueeze),
    "expand": _expand,
    "repeat": _repeat,
    **dict.fromkeys(["as_strided", "as_strided_"], _as_strided),
    **dict.fromkeys(["zeros_like", "ones_like", "full_like", "empty_like"], _like),
}  # fmt: skip
