"""Running a module once while every operation is followed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from . import ops_layers, ops_math, ops_pieces, ops_products, ops_views
from .aliases import Aliases
from .call import Call
from .ids import Ids
from .ledger import Ledger, State, TooLarge
from .skip import blank, is_heavy, shaped_by_data

RULES: dict[str, ops_views.Rule] = {
    **ops_views.RULES,
    **ops_pieces.RULES,
    **ops_math.RULES,
    **ops_products.RULES,
    **ops_layers.RULES,
}
_INPUT = "it meets the model's input"
# After this share of the time the arithmetic of large operations is left out.
_HURRY = 0.2
_LARGE = "it has too many channels to follow"


class Unfollowed(BaseException):
    """The recording was given up; says why. No model's own `except Exception` may catch it."""


@dataclass
class Recording:
    """What one run showed.

    `dims` has for each parameter and buffer, by every name it has, the ids along each of its
    dimensions (None for a dimension of size 1). `used` are the names of those that took part.
    `vectors` lists by weight the norms' vectors behind it, `branches` the weights that end residual
    branches. `alive` has the bits of all events that the outputs depend on. `data_dependent` says
    where the model looked at its data, None if it did not.
    """

    ledger: Ledger
    dims: dict[str, tuple[Ids | None, ...]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    vectors: dict[str, list[str]] = field(default_factory=dict)
    branches: set[str] = field(default_factory=set)
    alive: int = 0
    data_dependent: str | None = None


def record(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], seconds: float
) -> Recording:
    """Run `module` (in eval mode) once. Raises Unfollowed, and whatever the model's code raises."""
    try:
        recorder = _Recorder(module, seconds)
    except TooLarge:
        raise Unfollowed(_LARGE) from None
    for tensor in tensors((args, kwargs)):
        recorder.put(tensor, State(tuple(tensor.shape), data=True, why=_INPUT))
    with contextlib.ExitStack() as stack:
        stack.enter_context(_places(module, recorder.place))
        stack.enter_context(_slow_attention())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(recorder)
        outputs = module(*args, **kwargs)
    recorder.finish(outputs)
    return recorder.recording


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (tuple, list, set)):
        for item in value:
            yield from tensors(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for entry in fields(value):
            yield from tensors(getattr(value, entry.name))


@contextlib.contextmanager
def _slow_attention() -> Iterator[None]:
    """Without the fused operation that some attention modules turn into at inference."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _places(module: nn.Module, stack: list[str]) -> Iterator[None]:
    """Keep in `stack` the paths of the modules that are running."""
    handles = []

    def enter(path: str) -> Callable[..., None]:
        return lambda *_: stack.append(path)

    def leave(*_: Any) -> None:
        stack.pop()

    for path, child in module.named_modules():
        handles.append(child.register_forward_pre_hook(enter(path)))
        handles.append(child.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Clock:
    """Seconds that this thread has computed; a third of those that passed, if that is more.

    Other programs on a busy machine then do not decide what is known of a model.
    """

    def __init__(self) -> None:
        self._wall, self._own = time.monotonic(), time.thread_time()

    def seconds(self) -> float:
        """Since the clock was made."""
        waited = (time.monotonic() - self._wall) / 3
        return max(waited, time.thread_time() - self._own)


class _Recorder(TorchDispatchMode):
    def __init__(self, module: nn.Module, seconds: float) -> None:
        super().__init__()
        self.recording = Recording(Ledger())
        self.place: list[str] = []
        self._seconds = seconds
        self._clock = _Clock()
        self._blank = False
        self._states: Any = WeakTensorKeyDictionary()
        self._aliases = Aliases(self._states)
        for name, tensor in self._named(module):
            self._register(name, tensor)

    @staticmethod
    def _named(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
        yield from module.named_parameters(remove_duplicate=False)
        yield from module.named_buffers(remove_duplicate=False)

    def _register(self, name: str, tensor: Tensor) -> None:
        known = self._states.get(tensor)
        if known is not None:
            self.recording.dims[name] = self.recording.dims[known.origin]
            return
        shape = tuple(tensor.shape)
        if not tensor.is_floating_point() or any(n > 1 << 24 for n in shape):
            self.recording.dims[name] = (None,) * len(shape)
            self.put(tensor, State(shape, origin=name))
            return
        ledger = self.recording.ledger
        dims = tuple(ledger.keep(ledger.fresh(n)) if n > 1 else None for n in shape)
        parts = []
        for dim, ids in enumerate(dims):
            if ids is not None:
                sizes = [1] * len(shape)
                sizes[dim] = len(ids)
                parts.append(ids.reshape(sizes))
        self.recording.dims[name] = dims
        self.put(tensor, State(shape, tuple(parts), origin=name))

    def put(self, tensor: Tensor, state: State) -> None:
        """Note what is known of a tensor from now on."""
        self._states[tensor] = state
        self._aliases.add(tensor)

    def state(self, tensor: Tensor) -> State:
        """What is known of a tensor."""
        found: State | None = self._states.get(tensor)
        return found if found is not None else State(tuple(tensor.shape))

    @property
    def _late(self) -> str:
        return f"the trace took more than {self._seconds:g} seconds"

    def finish(self, outputs: Any) -> None:
        """Let the outputs stay as they are. Raises Unfollowed for outputs without tensors."""
        found = list(tensors(outputs))
        if not found:
            raise Unfollowed("its outputs hold no tensor")
        for tensor in found:
            state = self.state(tensor)
            self.recording.alive |= state.past
            for part in state.parts:
                self.recording.ledger.freeze(part.reshape(-1), "the model's output")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        elapsed = self._clock.seconds()
        if elapsed > self._seconds:
            raise Unfollowed(self._late)
        inputs = list(tensors((args, kwargs)))
        states = [self.state(tensor) for tensor in inputs]
        if elapsed > self._seconds * _HURRY and is_heavy(func):
            self._blank = True
            result = blank(func, args, kwargs)
        else:
            result = func(*args, **kwargs)
        if self._blank and shaped_by_data(func, inputs) and any(s.data and s.past for s in states):
            raise Unfollowed(self._late)
        for state in states:
            if state.origin is not None:
                self.recording.used.add(state.origin)
        try:
            self._follow(func, args, kwargs, states, result)
        except TooLarge:
            raise Unfollowed(_LARGE) from None
        return result

    def _follow(
        self, func: Any, args: Any, kwargs: dict[str, Any], states: list[State], result: Any
    ) -> None:
        outputs = list(tensors(result))
        place = self.place[-1] if self.place else ""
        call = Call(func, args, kwargs, outputs, self.state, self.recording.ledger, place)
        if not outputs:
            self._looked_at(call, states)
            return
        found = self._apply(call, states)
        past = call.bit
        for state in states:
            past |= state.past
        data = any(state.data for state in states)
        why = next((state.why for state in states if state.why), "")
        given = {id(tensor) for tensor in tensors((args, kwargs))}
        for tensor, state in zip(outputs, found, strict=True):
            full = tuple(tensor.shape)
            if prod(full) == 0:
                state = State(full)
            state = replace(
                state,
                shape=full,
                past=past | state.past,
                data=data,
                why=state.why or why,
                tensor=None,
            )
            if func._schema.is_mutable and id(tensor) in given:
                self._aliases.written(tensor, state, self.recording.ledger, call)
            self.put(tensor, state)
        self.recording.branches.update(call.branches)
        for weights, vectors in call.norms:
            for weight in weights:
                known = self.recording.vectors.setdefault(weight, [])
                known.extend(v for v in vectors if v not in known)

    def _apply(self, call: Call, states: list[State]) -> list[State]:
        """The states of the call's outputs, by its rule; without one its channels stay."""
        found: Any = None
        if any(state.parts for state in states):
            bare = call.name.rstrip("_")
            rule = RULES.get(call.name) or RULES.get(bare)
            if rule is not None:
                found = rule(call)
            elif ops_math.is_pointwise(call):
                found = ops_math.pointwise(call)
            if found is None:
                reason = f"an operation that is not followed: {call.where}"
                for state in states:
                    call.freeze_all(state, reason)
                found = [State(tuple(o.shape), why=reason) for o in call.outputs]
        else:
            found = [State(tuple(o.shape)) for o in call.outputs]
        if isinstance(found, State):
            found = [found, *(State(tuple(o.shape)) for o in call.outputs[1:])]
        return list(found)

    def _looked_at(self, call: Call, states: list[State]) -> None:
        """A number left the tensors, so that the model's way may depend on it."""
        for state in states:
            self.recording.alive |= state.past
            if state.data and state.past and self._blank:
                raise Unfollowed(self._late)
            if state.data:
                self.recording.data_dependent = self.recording.data_dependent or call.where
            call.freeze_all(state, f"the model looks at it in {call.where}")
        self.recording.alive |= call.bit
