"""The fastest form of each pruned layer on this machine, measured once and remembered."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..modules.layers import matrix_of
from .calls import recorded
from .candidates import candidates
from .memory import Memory
from .question import question_of
from .race import DENSE, Form, race, runs, winner
from .stopwatch import Stopwatch
from .timing import Timing


@dataclass(frozen=True)
class Choice:
    """What runs in a layer's place; `times` are those of every path that was tried.

    `path` names what runs, ``"dense"`` where nothing beats the layer as it is; nothing was tried
    where no other form fits. `remembered` says that nothing was timed now.
    """

    path: str
    module: nn.Module
    times: Mapping[str, Timing]
    remembered: bool = False

    @property
    def tried(self) -> dict[str, float]:
        """Milliseconds of one call, by path."""
        return {path: timing.median_ms for path, timing in self.times.items()}

    @property
    def speedup(self) -> float:
        """Dense time over the time of what runs; 1.0 where that is dense."""
        return 1.0 if self.path == DENSE else self.tried[DENSE] / self.tried[self.path]


@dataclass(frozen=True)
class Dispatcher:
    """Picks by measuring: every candidate against the dense layer, interleaved, on the real input.

    `seconds` is the time for one layer. `check` is called between samples and may raise to stop.
    """

    memory: Memory = field(default_factory=lambda: Memory(None))
    seconds: float = 0.4
    check: Callable[[], object] = lambda: None

    def choose(self, module: nn.Module, x: Tensor) -> Choice:
        """The fastest form of a layer for inputs like `x`, which it is timed on.

        `module` is a linear layer or a convolution with zeros in its weight, on the device of `x`.
        A candidate that fails on the input is no candidate.
        """
        found = candidates(module)
        if not found:
            return Choice(DENSE, module, {})
        question = question_of(module, x)
        forms = partial(running, module, found, x)
        answer = self._stopwatch().answer(question, found.keys(), forms, x.device)
        path = answer.winner
        ran = module if path == DENSE else found[path]
        return Choice(path, ran, answer.times, answer.remembered)

    def accelerate(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[nn.Module, dict[str, Choice]]:
        """A copy of a model with its pruned layers in their fastest forms, and what was chosen.

        Every linear layer and convolution with zeros is looked at, transformers' ``Conv1D`` too, on
        an input of the shape that it has when the model is called with `args` and `kwargs`. The
        copy computes the same within rounding, and does not learn: what records gradients would
        take the forms' slower way. If it is not faster as a whole, the choices are all dense.
        """
        result = copy.deepcopy(module).eval().requires_grad_(False)
        layers = {path: layer for path, layer in result.named_modules() if _has_zeros(layer)}
        choices = {}
        for path, call in recorded(result, args, kwargs, layers).items():
            layer = layers[path]
            choices[path] = self.choose(layer, call.example(next(layer.parameters()).device))
        chosen = {path: choice for path, choice in choices.items() if choice.path != DENSE}
        for path, choice in chosen.items():
            result.set_submodule(path, choice.module)
        if chosen and winner(self._whole(module, result, args, kwargs)) == DENSE:
            dense = {p: Choice(DENSE, layers[p], c.times, c.remembered) for p, c in choices.items()}
            return copy.deepcopy(module).eval().requires_grad_(False), dense
        return result, choices

    def _whole(
        self, dense: nn.Module, sparse: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Timing]:
        device = next(sparse.parameters()).device.type
        forms = [Form(DENSE, dense, args, kwargs), Form("sparse", sparse, args, kwargs)]
        return race(forms, seconds=self.seconds, device=device, check=self.check)

    def _stopwatch(self) -> Stopwatch:
        return Stopwatch(self.memory, self.seconds, self.check)


def running(dense: nn.Module, others: Mapping[str, nn.Module], x: Tensor) -> list[Form]:
    """A layer and those of its other forms that take the input."""
    found = [Form(path, each, (x,), {}) for path, each in others.items() if runs(each, x)]
    return [Form(DENSE, dense, (x,), {}), *found]


def _has_zeros(module: nn.Module) -> bool:
    matrix = matrix_of(module)
    return matrix is not None and not bool(matrix.all())
