"""Products of tensors: linear layers, attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from .call import Call, all_over, padded
from .ids import Flags, varying
from .ledger import State
from .ops_math import demand
from .ops_views import Rule

# Positions of a product that are looked at one by one for zeros.
_MOST = 300_000_000


def contract(
    call: Call, x: State, y: State, letters: str, xz: Flags | None = None, yz: Flags | None = None
) -> State:
    """The product of two tensors as einsum writes it, such as ``"nk,km->nm"``.

    `xz` and `yz` say where they are zero.
    """
    sides, out = letters.split("->")
    left, right = sides.split(",")
    every = out + "".join(sorted(set(left + right) - set(out)))
    one, two = _placed(x, left, every, xz), _placed(y, right, every, yz)
    summed = frozenset(range(len(out), len(every)))
    # A product of activations is attention or the like: a head is scaled by its width.
    attends = x.origin is None and y.origin is None
    batch = frozenset(i for i, c in enumerate(every) if c in left and c in right) - summed
    known = call.combine([one, two], at_once=True)
    parts = []
    for part in known:
        here = varying(part) & summed
        if attends and (here or varying(part) & batch):
            call.ledger.tie(part, varying(part) - batch)
            if varying(part) & batch:
                call.ledger.attention.append(part)
        if not here:
            pass
        elif here == varying(part):
            rest = frozenset(range(len(every))) - here
            demand(call, part, _either(one.zero, two.zero, rest))
            continue
        else:
            call.ledger.tie(part, here)
            for dim in here:
                part = part.take([0], axis=dim)
        parts.append(call.ledger.keep(part.reshape(part.shape[: len(out)])))
    zero = _either(one.zero, two.zero, summed)
    shape = tuple(max(a, b) for a, b in zip(one.shape, two.shape, strict=True))[: len(out)]
    return State(
        shape, tuple(parts), None if zero is None else zero.reshape(zero.shape[: len(out)])
    )


def _placed(state: State, own: str, every: str, zero: Flags | None) -> State:
    """The state with its dimensions where `every` has their letters, and 1s elsewhere."""
    order = [own.index(c) for c in every if c in own]
    missing = [i for i, c in enumerate(every) if c not in own]

    def place(array: Any) -> Any:
        return np.expand_dims(array.transpose(order), missing)

    sizes = dict(zip(own, state.shape, strict=True))
    shape = tuple(sizes.get(c, 1) for c in every)
    parts = tuple(place(p) for p in state.parts)
    zero = None if zero is None else place(zero)
    return replace(state, shape=shape, parts=parts, zero=zero, tensor=None)


def _either(one: Flags | None, two: Flags | None, dims: frozenset[int]) -> Flags | None:
    """Where one or the other is zero all along `dims`; None where nowhere, or too much to say."""
    if one is None and two is None:
        return None
    if one is None or two is None:
        return all_over(one if two is None else two, dims)
    shape = np.broadcast_shapes(one.shape, two.shape)
    if np.prod(shape, dtype=np.int64) > _MOST:
        return all_over(one, dims)
    return all_over(one | two, dims)


def layer(call: Call, state: State, weight: State) -> State:
    """The state as the outputs of a weight."""
    name = weight.origin
    if name is None or not state.parts:
        return state
    bit = call.ledger.layers.setdefault(name, 0) or call.ledger.event()
    call.ledger.layers[name] = bit
    return replace(state, seen=(name,), end=name, past=state.past | bit)


def _product(call: Call, x: Tensor, y: Tensor, letters: str, bias: Tensor | None = None) -> State:
    one, two = call.state(x), call.state(y)
    state = contract(call, one, two, letters, call.zero(x), call.zero(y))
    if bias is not None:
        zero = call.zero(bias)
        shift = padded(call.state(bias), len(state.shape))
        both = None
        if state.zero is not None and zero is not None:
            both = state.zero & zero.reshape((1,) * (len(state.shape) - zero.ndim) + zero.shape)
        state = replace(state, parts=call.combine([state, shift]), zero=both)
    if two.origin is not None and one.origin is None:
        return layer(call, state, two)
    if one.origin is not None and two.origin is None:
        return layer(call, state, one)
    return state


def _mm(call: Call) -> State:
    first, second = ("mat1", "mat2") if "mat1" in call.named else ("self", "mat2")
    bias = call["self"] if "mat1" in call.named else None
    return _product(call, call[first], call[second], "nk,km->nm", bias)


def _bmm(call: Call) -> State:
    if "batch1" in call.named:
        bias = call["self"] if call.named.get("beta", 1) else None
        return _product(call, call["batch1"], call["batch2"], "bnk,bkm->bnm", bias)
    return _product(call, call["self"], call["mat2"], "bnk,bkm->bnm")


def _mv(call: Call) -> State:
    if call.name == "dot":
        return _product(call, call["self"], call["tensor"], "k,k->")
    return _product(call, call["self"], call["vec"], "nk,k->n")


def _linear(call: Call) -> State:
    x, weight = call["input"], call["weight"]
    front = "abcdefg"[: x.dim() - 1]
    return _product(call, x, weight, f"{front}k,mk->{front}m", call["bias"])


def _matmul(call: Call) -> State | None:
    x, y = call["self"], call["other"]
    if x.dim() < 2 or y.dim() != 2:
        return None
    front = "abcdefg"[: x.dim() - 1]
    return _product(call, x, y, f"{front}k,km->{front}m")


def _grouped_mm(call: Call) -> State | None:
    """Rows of a matrix times the matrices of a stack, each row its own: a mixture of experts."""
    x, stack = call["self"], call["mat2"]
    if x.dim() != 2 or stack.dim() != 3:
        return None
    state = replace(call.state(stack), zero=call.zero(stack))
    one = call.without(state, frozenset({0}), f"it is looked up in {call.where}")
    zero = None if one.zero is None else one.zero[0]
    one = replace(one, shape=one.shape[1:], parts=tuple(p[0] for p in one.parts), zero=zero)
    return layer(call, contract(call, call.state(x), one, "nk,km->nm", call.zero(x), zero), one)


def _sdpa(call: Call) -> list[State]:
    """Attention in one operation: [batch, heads, tokens, width] three times."""
    q, k, v = call["query"], call["key"], call["value"]
    one, two, three = call.state(q), call.state(k), call.state(v)
    two, three = _grouped(two, one.shape[1]), _grouped(three, one.shape[1])
    scores = contract(call, one, two, "bhtd,bhsd->bhts", call.zero(q), two.zero)
    mask = call.named.get("attn_mask", call.named.get("attn_bias"))
    if isinstance(mask, Tensor):
        scores = replace(scores, parts=call.combine([scores, padded(call.state(mask), 4)]))
    for part in scores.parts:
        for dim in varying(part) & {2, 3}:
            call.hold(part, dim, f"{call.where} is taken over its channels")
    for part in three.parts:
        call.ledger.tie(part, varying(part) & {3})
    out = contract(call, replace(scores, zero=None), three, "bhts,bhse->bhte", None, three.zero)
    rest = [State(tuple(o.shape)) for o in call.outputs[1:]]
    return [replace(out, shape=tuple(call.outputs[0].shape)), *rest]


def _grouped(state: State, heads: int) -> State:
    """Keys or values repeated for the queries that share them."""
    if state.shape[1] == heads or state.shape[1] == 1:
        return state
    times = heads // state.shape[1]

    def repeat(array: Any) -> Any:
        return array.repeat(times, axis=1) if array.shape[1] > 1 else array

    shape = (state.shape[0], heads, *state.shape[2:])
    zero = None if state.zero is None else repeat(state.zero)
    return replace(state, shape=shape, parts=tuple(repeat(p) for p in state.parts), zero=zero)


RULES: dict[str, Rule] = {
    **dict.fromkeys(["mm", "addmm", "_addmm_activation"], _mm),
    **dict.fromkeys(["bmm", "baddbmm"], _bmm),
    **dict.fromkeys(["mv", "dot"], _mv),
    **dict.fromkeys(["_grouped_mm", "grouped_mm"], _grouped_mm),
    "linear": _linear,
    "matmul": _matmul,
    **dict.fromkeys(
        ["_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
         "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
         "_scaled_dot_product_fused_attention_overrideable",
         "_scaled_dot_product_attention_math_for_mps"], _sdpa),
}  # fmt: skip
