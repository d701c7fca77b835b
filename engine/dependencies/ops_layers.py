"""Convolutions, norms and pooling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from .call import Call, all_over, padded
from .ids import Flags, Ids, varying
from .ledger import State
from .ops_math import channelwise
from .ops_products import contract, layer
from .ops_views import Rule


def _convolution(call: Call) -> State | None:
    x, weight, bias = call.state(call["input"]), call.state(call["weight"]), call["bias"]
    after = tuple(call.outputs[0].shape)
    rank = len(after)
    if len(x.shape) != rank or len(weight.shape) != rank:
        return None
    places = frozenset(range(2, rank))
    x = call.without(x, places, f"{call.where} is taken over its channels")
    zero = call.zero(call["weight"])
    weight = call.without(replace(weight, zero=zero), places, f"{call.where} reads them by place")
    x, weight = (
        replace(
            s,
            shape=s.shape[:2],
            parts=tuple(p.reshape(p.shape[:2]) for p in s.parts),
            zero=None if s.zero is None else s.zero.reshape(s.zero.shape[:2]),
        )
        for s in (x, weight)
    )
    if call["groups"] > 1:
        state = _grouped(call, x, weight, call["groups"], call["transposed"])
    else:
        letters = "nk,km->nm" if call["transposed"] else "nk,mk->nm"
        state = contract(call, x, weight, letters, x.zero, weight.zero)
        state = layer(call, state, weight)
    ones = (1,) * (rank - 2)
    parts = tuple(call.ledger.keep(p.reshape(*p.shape, *ones)) for p in state.parts)
    zero = None if state.zero is None else state.zero.reshape(*state.zero.shape, *ones)
    state = replace(state, shape=after, parts=parts, zero=zero)
    if bias is not None:
        shift = channelwise(call, bias, rank)
        blank = call.zero(bias)
        both = None
        if state.zero is not None and blank is not None:
            both = state.zero & blank.reshape(1, -1, *ones)
        state = replace(state, parts=call.combine([state, shift]), zero=both)
    return state


def _grouped(call: Call, x: State, weight: State, groups: int, transposed: bool) -> State:
    """Whole groups go, in and out; the weight's own inputs (its outputs if transposed) stay."""
    inputs = _channels(x.parts, 1, x.shape[1])
    rows = _channels(weight.parts, 0, weight.shape[0])
    per_in = x.shape[1] // groups
    reason = f"the groups of {call.where} have a fixed number of channels"
    for part in weight.parts:
        if 1 in varying(part):
            call.freeze(part, reason)
    bit = call.event()
    if inputs is None:
        if rows is not None:
            call.freeze(rows, x.why or "it reads the model's input")
        return replace(State((x.shape[0], weight.shape[0])), why=reason)
    if transposed:
        per_out = weight.shape[1]
        if rows is not None:
            call.ledger.unite(inputs, rows, reason, bit)
        if per_out > 1:  # its outputs lie along two dimensions of the weight
            call.freeze(inputs, reason)
            return replace(State((x.shape[0], groups * per_out)), why=reason)
        rows = inputs.reshape(groups, per_in)[:, 0]
    if rows is None:
        call.freeze(inputs, reason)
        return replace(State((x.shape[0], weight.shape[0])), why=reason)
    outs = rows.reshape(groups, -1)
    ins = inputs.reshape(groups, per_in)
    if per_in == 1 and outs.shape[1] == 1:
        call.ledger.unite(ins, outs, reason, bit)
        state = layer(call, State(x.shape, (rows[None],), _silent(x, weight)), weight)
        return replace(state, seen=(*x.seen, *state.seen))
    for part in (ins, outs):
        call.ledger.tie(part, frozenset({1}) & varying(part))
        call.ledger.stiff.append((part.reshape(-1), reason))
    one, two = ins[:, 0], outs[:, 0]
    call.ledger.tied.append((one[(one != 0) & (two != 0)], two[(one != 0) & (two != 0)]))
    lone = (one == 0) != (two == 0)
    if lone.any():
        call.freeze(np.concatenate([ins[lone].ravel(), outs[lone].ravel()]), reason)
    zero = None
    if weight.zero is not None and not transposed:
        zero = np.broadcast_to(
            weight.zero.all(axis=1, keepdims=True).reshape(1, -1), (1, outs.size)
        )
    state = State((x.shape[0], outs.size), (call.ledger.keep(outs.reshape(1, -1)),), zero)
    return layer(call, state, weight)


def _channels(parts: tuple[Ids, ...], dim: int, size: int) -> Ids | None:
    found = [p for p in parts if varying(p) == {dim}]
    return found[0].reshape(-1) if found and found[0].size == size else None


def _silent(x: State, weight: State) -> Flags | None:
    """Depthwise: zero where the input or the channel's filter is."""
    zeros = [x.zero] if x.zero is not None else []
    if weight.zero is not None:
        rows = weight.zero.all(axis=1, keepdims=True).reshape(1, -1)
        zeros.append(np.broadcast_to(rows, (1, weight.shape[0])))
    if not zeros:
        return None
    return zeros[0] if len(zeros) == 1 else zeros[0] | zeros[1]


def _batch_norm(call: Call) -> State | list[State]:
    """Per channel; in training mode (as instance norms run it) with the input's own statistics."""
    x = call.state(call["input"])
    rank = len(x.shape)
    vectors = [call.named.get(n) for n in ("weight", "bias", "running_mean", "running_var")]
    given = [v for v in vectors if isinstance(v, Tensor)]
    parts = call.combine([x, *(channelwise(call, v, rank) for v in given)])
    scale, shift = vectors[:2]
    names = tuple(n for v in (scale, shift) if v is not None and (n := call.state(v).origin))
    call.norms.append((x.seen, names))
    own = bool(call.named.get("training")) or vectors[2] is None
    shape = [1] * rank
    shape[1] = x.shape[1]
    flat = None if scale is None else call.zero(scale)
    flat = None if flat is None else flat.reshape(shape)
    if own and x.zero is not None:
        quiet = all_over(x.zero, frozenset(range(rank)) - {1})
        flat = quiet if flat is None else flat if quiet is None else flat | quiet
    blank = np.ones(shape, np.bool_) if shift is None else call.zero(shift)
    zero = None if flat is None or blank is None else flat & blank.reshape(shape)
    if zero is not None and not zero.any():
        zero = None
    state = State(x.shape, parts, zero, seen=x.seen, end=x.end)
    return [state, *(State(tuple(o.shape)) for o in call.outputs[1:])]


def _layer_norm(call: Call) -> list[State]:
    """Statistics over the last dimensions: nothing may go, but any order will do."""
    x, size = call.first(), len(call["normalized_shape"])
    rank = len(x.shape)
    vectors = [v for n in ("weight", "bias") if isinstance(v := call.named.get(n), Tensor)]
    parts = call.combine([x, *(padded(call.state(v), rank) for v in vectors)])
    for part in parts:
        for dim in varying(part) & set(range(rank - size, rank)):
            call.hold(part, dim, f"{call.where} takes the mean over all its channels", order=False)
    zero = None
    scale, shift = call.named.get("weight"), call.named.get("bias")
    if scale is not None and call.zero(scale) is not None:
        blank = np.ones(1, np.bool_) if shift is None else call.zero(shift)
        if blank is not None:
            zero = (call.zero(scale) & blank).reshape((1,) * (rank - size) + tuple(scale.shape))  # type: ignore[operator]
            zero = zero if zero.any() else None
    return [State(x.shape, parts, zero), *(State(tuple(o.shape)) for o in call.outputs[1:])]


def _group_norm(call: Call) -> list[State]:
    x = call.first()
    rank = len(x.shape)
    vectors = [v for n in ("weight", "bias") if isinstance(v := call.named.get(n), Tensor)]
    parts = call.combine([x, *(channelwise(call, v, rank) for v in vectors)])
    for part in parts:
        call.freeze(part, f"{call.where} takes the mean over groups of its channels")
    return [State(x.shape, parts), *(State(tuple(o.shape)) for o in call.outputs[1:])]


def _pool(call: Call) -> list[State]:
    """Pooling, padding and interpolation over the dimensions behind the channels."""
    x = call.first()
    spatial = next((int(call.name[i - 1]) for i in range(1, len(call.name)) if call.name[i] == "d"
                    and call.name[i - 1].isdigit()), len(x.shape) - 2)  # fmt: skip
    places = frozenset(range(len(x.shape) - spatial, len(x.shape)))
    whole = call.without(x, places, f"{call.where} is taken over its channels")
    return [replace(whole, shape=tuple(o.shape), end=None) for o in call.outputs]


_POOLS = [f"{kind}{pool}{n}d{tail}" for kind in ("", "_", "mkldnn_") for n in (1, 2, 3)
          for pool in ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool",
                       "lp_pool", "fractional_max_pool", "reflection_pad", "replication_pad")
          for tail in ("", "_with_indices")]  # fmt: skip
_SIZES = ["nearest1d", "nearest2d", "nearest3d", "bilinear2d", "bicubic2d", "trilinear3d",
          "linear1d"]  # fmt: skip

RULES: dict[str, Rule] = {
    **dict.fromkeys(["convolution", "_convolution", "convolution_overrideable"], _convolution),
    **dict.fromkeys(
        ["native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
         "cudnn_batch_norm", "batch_norm", "_batch_norm_with_update", "_batch_norm_no_update",
         "miopen_batch_norm"], _batch_norm),
    **dict.fromkeys(["native_layer_norm", "layer_norm", "rms_norm", "_fused_rms_norm"],
                    _layer_norm),
    **dict.fromkeys(["native_group_norm", "group_norm"], _group_norm),
    **dict.fromkeys([*_POOLS, *(f"upsample_{s}" for s in _SIZES),
                     *(f"_upsample_{s}_aa" for s in _SIZES),
                     *(f"_upsample_nearest_exact{n}d" for n in (1, 2, 3))], _pool),
}  # fmt: skip
