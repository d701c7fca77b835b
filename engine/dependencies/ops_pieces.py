"""Taking tensors apart and putting them together: the same is done to the ids."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .call import Call, all_over, on_ids
from .ids import Ids, Shape, compressed, spread, varying
from .ledger import State
from .ops_views import Rule, moved


def _select(call: Call) -> State:
    state, dim = call.first(), call.dim()
    index = call["index"] % state.shape[dim]
    for part in state.parts:
        if dim in varying(part):
            call.hold(part, dim, f"one of its channels is picked in {call.where}", order=False)
    return _picked(call, state, dim, index)


def _picked(call: Call, state: State, dim: int, index: int) -> State:
    shape = state.shape[:dim] + state.shape[dim + 1 :]
    return moved(
        call, state, shape, lambda p: compressed(p.take(index if p.shape[dim] > 1 else 0, axis=dim))
    )


def _unbind(call: Call) -> list[State]:
    state, dim = call.first(), call.dim()
    for part in state.parts:
        if dim in varying(part):
            call.hold(part, dim, f"its channels are taken apart in {call.where}", order=False)
    return [_picked(call, state, dim, index) for index in range(state.shape[dim])]


def _piece(call: Call, state: State, dim: int, start: int, end: int, step: int = 1) -> State:
    shape = tuple(end - start if d == dim else n for d, n in enumerate(state.shape))
    if step != 1:
        shape = tuple(call.outputs[0].shape)

    def move(array: Any) -> Any:
        if array.shape[dim] == 1:
            return array
        cut = array.take(np.arange(start, end, step), axis=dim)
        return compressed(cut)

    return moved(call, state, shape, move)


def _slice(call: Call) -> State:
    state, dim = call.first(), call.dim()
    size, step = state.shape[dim], call["step"]
    start, end = call["start"] or 0, call["end"]
    start = max(start + size if start < 0 else min(start, size), 0)
    end = size if end is None else max(end + size if end < 0 else min(end, size), start)
    if (start, end, step) == (0, size, 1):
        return state
    length = end - start
    for part in state.parts:
        if dim not in varying(part):
            continue
        even = step == 1 and length > 0 and size % length == 0 and start % length == 0
        _cut(call, part, dim, size // length if even else 0)
    return _piece(call, state, dim, start, end, step)


def _cut(call: Call, part: Ids, dim: int, pieces: int) -> None:
    """A dimension with channels is cut in equal pieces, or with 0 `pieces` somewhere."""
    reason = f"it is cut at a fixed place in {call.where}"
    if varying(part) != {dim}:
        call.hold(part, dim, reason, order=False)
    elif pieces:
        call.event()
        call.ledger.halves.append((tuple(np.split(part.reshape(-1), pieces)), reason))
    else:
        call.freeze(part, reason, order=False)


def _split(call: Call) -> list[State]:
    state, dim = call.first(), call.dim()
    sizes = [tuple(output.shape)[dim] for output in call.outputs]
    if len(sizes) == 1:
        return [state]
    for part in state.parts:
        if dim in varying(part):
            _cut(call, part, dim, len(sizes) if len(set(sizes)) == 1 else 0)
    ends = np.cumsum(sizes).tolist()
    return [_piece(call, state, dim, e - n, e) for e, n in zip(ends, sizes, strict=True)]


def _cat(call: Call) -> State:
    states = [s for s in map(call.state, call["tensors"]) if prod(s.shape) > 0]
    after = tuple(call.outputs[0].shape)
    dim = call.dim(rank=len(after))
    zeros = [_zeros(s, dim) for s in states]
    zero = None
    if any(z.any() for z in zeros):
        zero = _glued(zeros, [s.shape for s in states], dim)
    # Along every other dimension the tensors lie side by side like operands.
    across = [replace(s, parts=tuple(p for p in s.parts if dim not in varying(p))) for s in states]
    flat = [replace(s, shape=(*s.shape[:dim], 1, *s.shape[dim + 1 :])) for s in across]
    along = [next((p for p in s.parts if dim in varying(p)), None) for s in states]
    parts = []
    if any(p is not None for p in along):
        blank = np.zeros([1] * len(after), dtype=np.int64)
        pieces = [blank if p is None else p for p in along]
        part = call.ledger.keep(_glued(pieces, [s.shape for s in states], dim))
        if len(varying(part)) > 1:
            call.ledger.grids.append(part)
        parts.append(part)
        # Of a tensor whose channels lie along other dimensions too, nothing simple can be said.
        others = varying(part)
        for state in flat:
            for known in state.parts:
                if varying(known) & others:
                    call.freeze(known, f"it is joined with other channels in {call.where}")
        flat = [
            replace(s, parts=tuple(p for p in s.parts if not varying(p) & others)) for s in flat
        ]
    parts += call.combine(flat)
    return State(after, tuple(parts), zero)


def _zeros(state: State, dim: int) -> Any:
    if state.zero is None:
        return np.zeros([1] * len(state.shape), dtype=np.bool_)
    return state.zero


def _glued(arrays: list[Any], shapes: list[Shape], dim: int) -> Any:
    """Compressed arrays joined along `dim`."""
    width = [max(a.shape[d] for a in arrays) for d in range(len(shapes[0]))]
    full = [
        np.broadcast_to(a, [s[dim] if d == dim else n for d, n in enumerate(width)])
        for a, s in zip(arrays, shapes, strict=True)
    ]
    return compressed(np.concatenate(full, axis=dim))


def _stack(call: Call) -> State:
    states = [call.state(t) for t in call["tensors"]]
    after = tuple(call.outputs[0].shape)
    dim = call.dim(rank=len(after))
    parts = call.combine(states)
    zeros = [s.zero for s in states if s.zero is not None]
    zero = None
    if len(zeros) == len(states):
        zero = zeros[0]
        for other in zeros[1:]:
            zero = zero & other
        zero = np.expand_dims(zero, dim)
    return State(after, tuple(call.ledger.keep(np.expand_dims(p, dim)) for p in parts), zero)


def _shuffled(call: Call) -> State | None:
    """Any fixed rearrangement along named dimensions, done to the ids by the operation itself."""
    state = call.first()
    dims = call["dims"] if "dims" in call.named else [call["dim"]]
    dims = frozenset(d % len(state.shape) for d in (dims or range(len(state.shape))))
    rest = call.args[1:]
    if call.name == "roll":
        for part in state.parts:
            for dim in varying(part) & dims:
                call.hold(part, dim, f"it is moved by a fixed number in {call.where}", order=False)

    def move(array: Any) -> Any:
        if not any(array.shape[d] > 1 for d in dims):
            return array
        full = spread(array, state.shape, dims)
        return compressed(on_ids(full, lambda t: call.func(t, *rest)))

    return moved(call, state, tuple(call.outputs[0].shape), move)


def _pixels(call: Call) -> State:
    """Pixel shuffles, as the views and the permutation that they are."""
    state, after = call.first(), tuple(call.outputs[0].shape)
    rest = call.args[1:]
    dims = frozenset(range(len(state.shape) - 3, len(state.shape)))

    def move(array: Any) -> Any:
        if all(array.shape[d] == 1 for d in dims):
            return array
        return compressed(on_ids(spread(array, state.shape, dims), lambda t: call.func(t, *rest)))

    result = moved(call, state, after, move)
    call.ledger.grids += [part for part in result.parts if len(varying(part)) > 1]
    return result


def _unfold(call: Call) -> State:
    """`Tensor.unfold`: windows along one dimension become another one at the end."""
    state = call.first()
    dim = call.dim("dimension")
    for part in state.parts:
        if dim in varying(part):
            call.hold(part, dim, f"windows are taken of it in {call.where}")
    after = tuple(call.outputs[0].shape)
    kept = [replace(state, zero=all_over(state.zero, frozenset({dim})))]
    parts = [
        call.ledger.keep(np.expand_dims(p, -1)) for p in kept[0].parts if dim not in varying(p)
    ]
    zero = None if kept[0].zero is None else np.expand_dims(kept[0].zero, -1)
    return replace(state, shape=after, parts=tuple(parts), zero=zero)


def _pad(call: Call) -> State:
    """Padding with a constant, last dimension first."""
    state, rank = call.first(), len(call.first().shape)
    pad, value = call["pad"], call["value"]
    widths = [(0, 0)] * rank
    for index in range(len(pad) // 2):
        widths[rank - 1 - index] = (pad[2 * index], pad[2 * index + 1])
    touched = frozenset(d for d, w in enumerate(widths) if w != (0, 0))

    def move(part: Ids) -> Ids:
        here = varying(part) & touched
        if not here:
            return part
        full = spread(part, state.shape, here)
        return on_ids(full, lambda t: _constant_pad(t, widths, here))

    parts = tuple(call.ledger.keep(move(p)) for p in state.parts)
    zero = all_over(state.zero, touched) if value == 0 else None
    after = tuple(call.outputs[0].shape)
    return replace(state, shape=after, parts=parts, zero=zero, end=None)


def _constant_pad(tensor: Tensor, widths: list[tuple[int, int]], dims: frozenset[int]) -> Tensor:
    flat = [w for d in reversed(range(tensor.dim())) for w in (widths[d] if d in dims else (0, 0))]
    return torch.constant_pad_nd(tensor, flat, 0)


def _index(call: Call) -> State | None:
    """Indexing with tensors: channels may lie along the other dimensions."""
    tensor, indices = call["self"], call["indices"]
    state = call.state(tensor)
    touched = frozenset(d for d, index in enumerate(indices) if index is not None)
    for index in indices:
        # A mask indexes as many dimensions as it has; those are left to the general answer.
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            return None
    whole = call.without(state, touched, f"it is looked up in {call.where}")
    after = tuple(call.outputs[0].shape)

    def move(array: Any) -> Any:
        small = [i if i is None else torch.zeros([1] * i.dim(), dtype=torch.long) for i in indices]
        return on_ids(array, lambda t: torch.ops.aten.index.Tensor(t, small))

    return moved(call, whole, after, move)


def _index_select(call: Call) -> State:
    state, dim = call.first(), call.dim()
    index = call["index"]
    data = call.state(index).data
    for part in state.parts:
        if dim in varying(part):
            call.hold(part, dim, f"it is looked up in {call.where}")
    if data:
        state = call.without(state, frozenset({dim}), f"it is looked up in {call.where}")
    after = tuple(call.outputs[0].shape)
    places = index.detach().cpu().numpy().reshape(-1)

    def move(array: Any) -> Any:
        return compressed(array.take(places, axis=dim)) if array.shape[dim] > 1 else array

    return moved(call, state, after, move)


def _embedding(call: Call) -> State:
    weight, indices = call.state(call["weight"]), call["indices"]
    zero = call.zero(call["weight"])
    rows = frozenset({0})
    whole = call.without(replace(weight, zero=zero), rows, f"it is looked up in {call.where}")
    ones = (1,) * (indices.dim() - 1)
    after = tuple(call.outputs[0].shape)
    shaped = [call.ledger.keep(p.reshape(*ones, *p.shape)) for p in whole.parts]
    if indices.dim() == 0:
        shaped = [p.reshape(-1) for p in whole.parts]
    zero = None if whole.zero is None else whole.zero.reshape((1,) * (len(after) - 1) + (-1,))
    return State(after, tuple(shaped), zero)


RULES: dict[str, Rule] = {
    "select": _select,
    "unbind": _unbind,
    "slice": _slice,
    **dict.fromkeys(["split", "split_with_sizes", "chunk", "tensor_split"], _split),
    "cat": _cat,
    "stack": _stack,
    **dict.fromkeys(["roll", "flip"], _shuffled),
    **dict.fromkeys(["pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
                     "native_channel_shuffle"], _pixels),
    "unfold": _unfold,
    "constant_pad_nd": _pad,
    "index": _index,
    "index_select": _index_select,
    "embedding": _embedding,
}  # fmt: skip
