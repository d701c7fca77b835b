"""Passing calibration data through a model: gradients and inputs of its layers.

The module itself is left alone: passes run through a copy that shares its memory, so that hooks,
gradients and another device never reach the original.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Batch, Data, Inputs, forward, to_device
from ..data.evaluate import check_inputs, check_labels, logits
from ..errors import BadInput
from ..info import LayerInfo
from .layer_inputs import LayerInputs, listen

_BATCH = 32


class Calibration:
    """The samples and the module that statistics are taken from.

    `state` holds the weights to use, by their state-dict names; None for the module's own. Samples
    are the first of the training split as `seed` shuffles it, never augmented. `device` is where
    passes run, `check` is called between batches and may raise. Tensors come back on `device`; a
    layer that has no part in what the model computes is left out.
    """

    def __init__(
        self,
        module: nn.Module,
        data: Data,
        *,
        state: Mapping[str, Tensor] | None = None,
        seed: int = 0,
        device: torch.device | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._module, self._state, self._data = module, state, data
        self._seed, self._check = seed, check
        self._device = device or torch.device("cpu")

    def gradients(self, layers: Iterable[LayerInfo], samples: int) -> tuple[dict[str, Tensor], int]:
        """The mean gradient W[out, in] of each layer by path, float32, and the number of batches.

        The loss is the cross-entropy.
        """
        layers = tuple(layers)
        module = self._copy(layers)
        count = steps = 0
        for inputs, labels in self._batches(samples, _BATCH):
            self._descend(module, inputs, labels)
            count, steps = count + len(labels), steps + 1
        means = {path: sums.div_(count) for path, sums in self._taken(module, layers).items()}
        return means, steps

    def squares(self, layers: Iterable[LayerInfo], samples: int, batch: int) -> dict[str, Tensor]:
        """An estimate of the mean squared gradient of a sample, float32 [out, in] by path.

        Gradients of `batch` samples are summed before they are squared; with 1 it is exact, with
        more its expectation is the same for gradients of zero mean.
        """
        layers = tuple(layers)
        module = self._copy(layers)
        sums: dict[str, Tensor] = {}
        count = 0
        for inputs, labels in self._batches(samples, batch):
            module.zero_grad(set_to_none=True)
            self._descend(module, inputs, labels)
            count += len(labels)
            for path, gradient in self._taken(module, layers).items():
                if path in sums:
                    sums[path].addcmul_(gradient, gradient)
                else:
                    sums[path] = gradient.square()
        return {path: total / count for path, total in sums.items()}

    @torch.no_grad()
    def norms(self, layers: Iterable[LayerInfo], samples: int) -> dict[str, Tensor]:
        """The norm of each input, float32 [groups, in] by path; see `Statistics.inputs`."""
        layers = tuple(layers)
        module = self._copy(())
        sums: dict[str, Tensor] = {}

        def add(path: str, inputs: LayerInputs) -> None:
            squares = inputs.squares()
            sums[path] = sums[path].add_(squares) if path in sums else squares

        for layer in layers:
            _listen(module, layer, partial(add, layer.path))
        count = 0
        for inputs, labels in self._batches(samples, _BATCH):
            forward(module, inputs)
            count += len(labels)
        return {path: (total / count).sqrt_() for path, total in sums.items()}

    @torch.no_grad()
    def hessian(self, layer: LayerInfo, samples: int) -> Tensor | None:
        """X·Xᵀ of one layer's inputs, float32 [groups, in, in]; see `Statistics.hessian`.

        Passes end where the layer has been, so that early layers cost little.
        """
        module = self._copy(())
        total: Tensor | None = None
        calls = 0
        expected: int | None = None  # calls in one pass; a layer may be used more than once

        def add(inputs: LayerInputs) -> None:
            nonlocal total, calls
            products = inputs.products()
            total = products if total is None else total.add_(products)
            calls += 1
            if calls == expected:
                raise _Enough

        _listen(module, layer, add)
        count = 0
        for inputs, labels in self._batches(samples, _BATCH):
            calls = 0
            try:
                forward(module, inputs)
            except _Enough:
                pass
            else:
                expected = calls
            count += len(labels)
        return None if total is None else total / count

    def _copy(self, trained: Iterable[LayerInfo]) -> nn.Module:
        """The module to run, in evaluation mode; only weights of `trained` layers get gradients."""
        module = sharing(self._module, self._state).to(self._device).eval()
        weights = {layer.weight for layer in trained}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if name in weights:
                parameter.requires_grad_(True)
        return module

    def _batches(self, samples: int, batch: int) -> Iterator[Batch]:
        batches = self._data.batches("train", batch, seed=self._seed, shuffle=True, most=samples)
        with _no_fast_path():
            for inputs, labels in batches:
                self._check()
                check_inputs(inputs, self._data.name)
                yield to_device(inputs, self._device), labels

    def _descend(self, module: nn.Module, inputs: Inputs, labels: Tensor) -> None:
        """Add the gradient of the summed loss of a batch."""
        scores = logits(forward(module, inputs))
        check_labels(labels, scores, self._data.name)
        loss = F.cross_entropy(scores.float(), labels.to(self._device), reduction="sum")
        if not bool(torch.isfinite(loss)):
            raise BadInput(f"the loss on {self._data.name} is NaN or infinite; check the weights")
        if loss.requires_grad:  # else no layer in question has a part in it
            loss.backward()

    def _taken(self, module: nn.Module, layers: tuple[LayerInfo, ...]) -> dict[str, Tensor]:
        parameters = dict(module.named_parameters(remove_duplicate=False))
        taken = {}
        for layer in layers:
            gradient = parameters[layer.weight].grad
            assert layer.gemm is not None
            if gradient is not None:
                taken[layer.path] = layer.gemm.view(gradient).float()
        return taken


def sharing(module: nn.Module, state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """A copy of the module with parameters of its own, without gradients, over the same memory.

    `state` gives the memory by state-dict names; a parameter that it does not name, and all without
    it, share the module's. Tied parameters stay tied.
    """
    state = state or {}
    memo: dict[int, Any] = {}
    for name, parameter in module.named_parameters():
        memory = state.get(name, parameter).detach()
        memo[id(parameter)] = nn.Parameter(memory, requires_grad=False)
    for name, buffer in module.named_buffers():
        memo[id(buffer)] = state.get(name, buffer).detach()
    return copy.deepcopy(module, memo)


class _Enough(Exception):
    """Ends a forward pass."""


def _listen(module: nn.Module, layer: LayerInfo, receive: Callable[[LayerInputs], None]) -> None:
    try:
        listen(module, layer, receive)
    except LookupError as error:
        raise BadInput(f"{error}; give it another criterion") from None


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """Fused attention layers call none of their submodules, so that hooks would see nothing."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
