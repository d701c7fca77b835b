"""Operations that compute: position by position, over dimensions, products of tensors."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .call import Call, all_over, padded
from .ids import Flags, Ids, Shape, varying
from .ledger import State
from .ops_views import Rule

# Computed position by position, but not marked so by torch.
_POINTWISE = {"hardswish", "masked_fill", "where", "nan_to_num", "prelu", "_prelu_kernel",
              "fill", "zero", "copy", "dropout", "erfinv", "log_sigmoid_forward"}  # fmt: skip


def is_pointwise(call: Call) -> bool:
    """Whether the operation treats every position for itself."""
    bare = call.name.rstrip("_")
    return torch.Tag.pointwise in call.func.tags or bare in _POINTWISE


def pointwise(call: Call) -> State | None:
    """Anything computed position by position, with broadcasting."""
    tensors = [a for a in [*call.args, *call.named.values()] if isinstance(a, Tensor)]
    tensors = list({id(t): t for t in tensors}.values())
    after = tuple(call.outputs[0].shape)
    bare = call.name.rstrip("_")
    if bare in ("fill", "zero"):
        return State(after, call.state(tensors[0]).parts, _zero_of_fill(call))
    if bare in ("copy", "prelu", "_prelu_kernel"):
        return _copy(call, after) if bare == "copy" else _prelu(call)
    if any(not set(t.shape) <= {1, *after} or t.dim() > len(after) for t in tensors):
        return None
    states = [padded(call.state(t), len(after)) for t in tensors]
    parts = call.combine(states)
    zero = _zero(call, bare, tensors, states)
    active = [s for s in states if s.parts and s.origin is None]
    seen = active[0].seen if len(active) == 1 else ()
    end = _end(call, bare, states)
    return State(after, parts, zero, seen=seen, end=end)


def _copy(call: Call, after: Shape) -> State:
    """`a.copy_(b)`: b's values, in a's size."""
    target, source = call["self"], call["src"]
    one, two = call.state(target), padded(call.state(source), len(after))
    zero = call.zero(source) if two.shape == after else None
    return State(after, call.combine([one, two]), zero, seen=two.seen)


def _prelu(call: Call) -> State | None:
    x, weight = call.state(call["self"]), call["weight"]
    size = weight.numel()
    if size == 1:
        return x
    slopes = channelwise(call, weight, len(x.shape)) if weight.dim() == 1 else call.state(weight)
    return State(x.shape, call.combine([x, slopes]), x.zero, seen=x.seen)


def channelwise(call: Call, vector: Tensor, rank: int, dim: int = 1) -> State:
    """A vector's state seen as a tensor of `rank` whose dimension `dim` it is."""
    state = call.state(vector)
    shape = [1] * rank
    shape[dim] = state.shape[0]
    parts = tuple(p.reshape(shape) for p in state.parts)
    return replace(state, shape=tuple(shape), parts=parts)


def _zero_of_fill(call: Call) -> Flags | None:
    rank = call.outputs[0].dim()
    blank = call.name.startswith("zero") or call.named.get("value") == 0
    return np.ones([1] * rank, dtype=np.bool_) if blank else None


def _end(call: Call, bare: str, states: Sequence[State]) -> str | None:
    """The weight without which the result is zero; notes residual additions on the way."""
    ends = {s.end for s in states if s.end}
    if bare == "mul" and len(ends) == 1:
        return ends.pop()
    if bare == "add" and len(states) == 2 and states[0].shape == states[1].shape:
        for one, other in (states, reversed(states)):
            if one.end and other.data and other.origin is None and not _depends(call, one, other):
                call.branches.append(one.end)
    return None


def _depends(call: Call, end: State, other: State) -> bool:
    return bool(other.past & call.ledger.layers.get(end.end or "", 0))


def _zero(call: Call, bare: str, tensors: list[Tensor], states: list[State]) -> Flags | None:
    """Where the result is zero because operands are."""
    rank = call.outputs[0].dim()
    zeros = []
    for tensor in tensors:
        zero = call.zero(tensor) if tensor.is_floating_point() else call.state(tensor).zero
        if zero is not None:
            zero = zero.reshape((1,) * (rank - zero.ndim) + zero.shape)
        zeros.append(zero)
    if bare == "mul":
        known = [z for z in zeros if z is not None]
        return functools.reduce(np.logical_or, known) if known else None
    need = {"masked_fill": zeros[:1], "div": zeros[:1], "where": zeros[1:]}.get(bare, zeros)
    known = [z for z in need if z is not None]
    if not need or len(known) < len(need):
        return None
    if not _keeps_zero(call, set(map(id, tensors if bare != "masked_fill" else tensors[:1]))):
        return None
    return functools.reduce(np.logical_and, known)


def _keeps_zero(call: Call, zero: set[int]) -> bool:
    """Whether the operation gives zero where its operands are, by trying it."""

    def given(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        blank = id(value) in zero and value.dtype != torch.bool
        return (torch.zeros if blank else torch.ones)(1, dtype=value.dtype)

    kwargs = {name: given(call.named[name]) for name in call.keywords}
    result = call.func(*(given(a) for a in call.args), **kwargs)
    first = result[0] if isinstance(result, (tuple, list)) else result
    return bool((first == 0).all())


def _dims(call: Call, rank: int) -> frozenset[int]:
    given = call.named.get("dim")
    if given is None or (isinstance(given, (list, tuple)) and not given):
        return frozenset(range(rank))
    return frozenset(d % rank for d in ([given] if isinstance(given, int) else given))


def _reduce(call: Call) -> State | list[State]:
    """Sums, means, maxima, norms over dimensions."""
    state = call.first()
    rank = len(state.shape)
    dims = _dims(call, rank) if rank else frozenset()
    if call.name == "sum":
        whole = _summed(call, state, dims)
    else:
        order = call.name in ("argmax", "argmin")
        whole = call.without(state, dims, f"{call.where} is taken over its channels", order)
    shape = tuple(call.outputs[0].shape)
    keep = len(shape) == rank

    def shaped(array: Any) -> Any:
        return array if keep else array.squeeze(tuple(dims))

    zero = None if whole.zero is None else shaped(whole.zero)
    if call.name not in ("sum", "mean", "amax", "amin", "max", "min", "linalg_vector_norm", "prod"):
        zero = None
    parts = tuple(call.ledger.keep(shaped(p)) for p in whole.parts)
    result = State(shape, parts, zero)
    return [replace(result, shape=tuple(o.shape)) for o in call.outputs]


def _summed(call: Call, state: State, dims: frozenset[int]) -> State:
    """A sum reads its channels like a weight of ones."""
    parts = []
    for part in state.parts:
        here = varying(part) & dims
        if here and here == varying(part):
            spare = all_over(state.zero, frozenset(range(len(state.shape))) - here)
            demand(call, part, spare)
        elif here:
            call.ledger.tie(part, here)
            for dim in here:
                part = part.take([0], axis=dim)
            parts.append(call.ledger.keep(part))
        else:
            parts.append(part)
    shape = tuple(1 if d in dims else n for d, n in enumerate(state.shape))
    return replace(state, parts=tuple(parts), shape=shape, zero=all_over(state.zero, dims))


def demand(call: Call, part: Ids, spare: Flags | None) -> None:
    """A reading of channels; `spare` broadcasts to the part."""
    flags = np.zeros(part.shape, np.bool_) if spare is None else np.broadcast_to(spare, part.shape)
    call.ledger.demands.append((part.reshape(-1), flags.reshape(-1)))


def _softmax(call: Call) -> State:
    state = call.first()
    dim = call.dim()
    for part in state.parts:
        if dim in varying(part):
            call.hold(part, dim, f"{call.where} is taken over its channels", order=False)
    return State(state.shape, state.parts)


def _cumulated(call: Call) -> State:
    """Sums so far, triangles: channels may lie along other dimensions."""
    state = call.first()
    rank = len(state.shape)
    dims = {rank - 1, rank - 2} if call.name.startswith("tri") else {call.dim()}
    for part in state.parts:
        for dim in varying(part) & dims:
            call.hold(part, dim, f"an operation that is not followed: {call.where}")
    return State(state.shape, state.parts, all_over(state.zero, frozenset(dims)))


_REDUCTIONS = ["mean", "sum", "amax", "amin", "max", "min", "linalg_vector_norm", "norm", "var",
               "std", "var_mean", "logsumexp", "any", "all", "prod", "argmax", "argmin",
               "count_nonzero"]  # fmt: skip

RULES: dict[str, Rule] = {
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(["_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax"],
                    _softmax),
    **dict.fromkeys(["cumsum", "cumprod", "tril", "triu", "cummax", "logcumsumexp"], _cumulated),
}  # fmt: skip
