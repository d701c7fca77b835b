"""The fastest form of each pruned layer on this machine, measured once and remembered."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..modules.layers import matrix_of
from .calls import recorded
from .candidates import candidates
from .memory import Memory
from .question import question_of
from .race import DENSE, Form, race, runs, winner
from .timing import Timing


@dataclass(frozen=True)
class Choice:
    """What runs in a layer's place. Milliseconds of one call; `tried` holds those of every path.

    `path` names what runs, ``"dense"`` where nothing beats the layer as it is; nothing was tried
    where no other form fits. `remembered` says that nothing was timed now.
    """

    path: str
    module: nn.Module
    tried: Mapping[str, float]
    remembered: bool = False

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
        known = self.memory.get(question)
        if known is not None and known["path"] in {DENSE, *found}:
            ran = module if known["path"] == DENSE else found[known["path"]]
            return Choice(known["path"], ran, known["tried"], remembered=True)
        running = {path: each for path, each in found.items() if runs(each, x)}
        running = {DENSE: module, **running}
        forms = [Form(path, each, (x,), {}) for path, each in running.items()]
        times = race(forms, seconds=self.seconds, device=x.device.type, check=self.check)
        path = winner(times)
        tried = {each: timing.median_ms for each, timing in times.items()}
        self.memory.put(question, {"path": path, "tried": tried})
        return Choice(path, running[path], tried)

    def accelerate(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[nn.Module, dict[str, Choice]]:
        """A copy of a model with its pruned layers in their fastest forms, and what was chosen.

        Every linear layer and convolution with zeros is looked at, transformers' ``Conv1D`` too, on
        an input of the shape that it has when the model is called with `args` and `kwargs`. The
        copy computes the same within rounding. If it is not faster as a whole, the choices are all
        dense.
        """
        result = copy.deepcopy(module).eval()
        layers = {path: layer for path, layer in result.named_modules() if _has_zeros(layer)}
        choices = {}
        for path, call in recorded(result, args, kwargs, layers).items():
            layer = layers[path]
            choices[path] = self.choose(layer, call.example(next(layer.parameters()).device))
        chosen = {path: choice for path, choice in choices.items() if choice.path != DENSE}
        for path, choice in chosen.items():
            result.set_submodule(path, choice.module)
        if chosen and winner(self._whole(module, result, args, kwargs)) == DENSE:
            dense = {p: Choice(DENSE, layers[p], c.tried, c.remembered) for p, c in choices.items()}
            return copy.deepcopy(module).eval(), dense
        return result, choices

    def _whole(
        self, dense: nn.Module, sparse: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Timing]:
        device = next(sparse.parameters()).device.type
        forms = [Form(DENSE, dense, args, kwargs), Form("sparse", sparse, args, kwargs)]
        return race(forms, seconds=self.seconds, device=device, check=self.check)


def _has_zeros(module: nn.Module) -> bool:
    matrix = matrix_of(module)
    return matrix is not None and not bool(matrix.all())
