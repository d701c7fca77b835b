"""One operation of a recording, and the facts that rules state about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .ids import Flags, Ids, Shape, compressed, varying
from .ledger import Ledger, State


class Call:
    """One call of an aten operation: `args` by position and by the schema's names, `outputs`.

    `state` gives what is known of a tensor. Freezing counts only if what the call computes matters
    for the model's output.
    """

    def __init__(
        self,
        func: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        outputs: list[Tensor],
        state: Callable[[Tensor], State],
        ledger: Ledger,
        place: str,
    ) -> None:
        self.func = func
        self.name: str = func._schema.name.split("::")[-1]
        names = [argument.name for argument in func._schema.arguments]
        defaults = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value}
        self.named: dict[str, Any] = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
        self.args = list(args)
        self.keywords = frozenset(kwargs)
        self.outputs = outputs
        self.ledger = ledger
        self.branches: list[str] = []
        self.norms: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self._state = state
        self._place = place
        self._bit = 0

    def __getitem__(self, name: str) -> Any:
        return self.named[name]

    @property
    def where(self) -> str:
        """The operation and the module that it runs in."""
        name = f"aten.{self.name.rstrip('_').lstrip('_')}"
        return f"{name} at {self._place}" if self._place else name

    @property
    def bit(self) -> int:
        """The event of this call, 0 if it has none yet."""
        return self._bit

    def event(self) -> int:
        """The bit that marks all that depends on this call."""
        if not self._bit:
            self._bit = self.ledger.event()
        return self._bit

    def state(self, tensor: Tensor) -> State:
        """What is known of a tensor."""
        state = self._state(tensor)
        if state.parts or state.data or state.origin:
            return state
        return replace(state, tensor=tensor)

    def first(self) -> State:
        """What is known of the first tensor of the call."""
        return self.state(next(a for a in self.args if isinstance(a, Tensor)))

    def zero(self, tensor: Tensor) -> Flags | None:
        """Where a tensor is zero whatever the input, broadcastable to it; None: nowhere known."""
        state = self.state(tensor)
        constant = state.tensor is not None and tensor.numel() <= 1 << 24
        if state.origin is None and not constant:
            return state.zero
        zero = tensor.detach() == 0
        return np.asarray(zero.cpu().numpy()) if bool(zero.any()) else None

    def freeze(self, ids: Ids, reason: str, order: bool = True) -> None:
        """These channels stay."""
        self.ledger.freeze(ids.reshape(-1), reason, self.event(), order)

    def freeze_all(self, state: State, reason: str) -> None:
        """All channels of a tensor stay."""
        for part in state.parts:
            self.freeze(part, reason)

    def hold(self, part: Ids, dim: int, reason: str, order: bool = True) -> None:
        """The size along `dim` stays."""
        self.ledger.hold(part, dim, reason, self.event(), order)

    def dim(self, name: str = "dim", rank: int | None = None) -> int:
        """A dimension among the arguments, counted from the front."""
        value: int = self.named[name]
        return value % (len(self.first().shape) if rank is None else rank)

    def combine(self, operands: Sequence[State], at_once: bool = False) -> tuple[Ids, ...]:
        """The parts of what is computed position by position from tensors of one rank.

        Channels at the same place become one; a dimension with channels of one operand and another
        size than 1 without channels in another must keep its size. `at_once` unites parts of
        different dimensions now, and not after all else is known.
        """
        parts: list[Ids] = []
        for operand in operands:
            for new in operand.parts:
                part, rest = new, []
                for known in parts:
                    if varying(known) & varying(part):
                        part = self._match(known, part, at_once)
                    else:
                        rest.append(known)
                parts = [*rest, part]
        for part in parts:
            for dim in varying(part):
                for operand in operands:
                    if operand.shape[dim] > 1 and not (
                        any(dim in varying(p) for p in operand.parts) or _even(operand, dim)
                    ):
                        self.hold(part, dim, operand.why or f"it meets other sizes in {self.where}")
        return tuple(parts)

    def _match(self, one: Ids, two: Ids, at_once: bool) -> Ids:
        """Two parts of the same positions; returns the one that says more."""
        reason = f"it meets other channels in {self.where}"
        left, right = varying(one), varying(two)
        larger = one if len(left) >= len(right) else two
        smaller = two if larger is one else one
        nested = varying(smaller) < varying(larger)
        if nested and not at_once:
            self.ledger.mixed.append((smaller, larger, reason))
        else:
            blank = bool((one == 0).any() or (two == 0).any())
            self.ledger.unite(one, two, reason, self.event() if blank else 0)
        return larger

    def without(self, state: State, dims: frozenset[int], reason: str, order: bool = True) -> State:
        """The state after `dims` were reduced to size 1; what varies along them must stay."""
        parts = []
        for part in state.parts:
            here = varying(part) & dims
            for dim in here:
                self.hold(part, dim, reason, order)
            for dim in here:
                part = part.take([0], axis=dim)
            if varying(part):
                parts.append(self.ledger.keep(part))
        shape = tuple(1 if d in dims else n for d, n in enumerate(state.shape))
        return replace(state, parts=tuple(parts), shape=shape, zero=all_over(state.zero, dims))


def all_over(zero: Flags | None, dims: frozenset[int]) -> Flags | None:
    """The positions that are zero all along `dims`, which get size 1."""
    if zero is None or not dims:
        return zero
    left = np.asarray(zero.all(axis=tuple(dims), keepdims=True))
    return left if left.any() else None


def _even(state: State, dim: int) -> bool:
    """Whether a constant of the model's code is the same all along `dim` of `state`."""
    tensor = state.tensor
    if tensor is None or tensor.numel() > 1 << 24:
        return False
    dim -= len(state.shape) - tensor.dim()
    return dim >= 0 and bool((tensor == tensor.narrow(dim, 0, 1)).all())


def padded(state: State, rank: int) -> State:
    """The state seen with 1s in front of its shape, as broadcasting does."""
    more = rank - len(state.shape)
    if more <= 0:
        return state
    ones = (1,) * more
    return replace(
        state,
        shape=ones + state.shape,
        parts=tuple(p.reshape(ones + p.shape) for p in state.parts),
        zero=None if state.zero is None else state.zero.reshape(ones + state.zero.shape),
    )


def on_ids(array: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Let a torch function work on a NumPy array."""
    return function(torch.from_numpy(np.array(array))).numpy()


__all__ = ["Call", "Shape", "all_over", "compressed", "on_ids", "padded"]
