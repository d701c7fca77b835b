"""Operations of each layer on one example, counted where its weight is really multiplied.

The model runs on the meta device, where no arithmetic is done, and every operation that reads a
weight is seen: also of attention and experts, which use their weights without calling a module.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..info import LayerInfo
from .model import Inputs

_PRODUCTS = {"mm", "bmm", "mv", "dot", "_grouped_mm", "grouped_mm_fallback"}
_SUMMED_PRODUCTS = {"addmm", "addmv", "baddbmm"}  # the sum's other part comes first
_COPIES = {"_to_copy", "clone", "_unsafe_view"}


class TooLong(Exception):
    """A model that did not end in time."""


def count_flops(
    module: nn.Module, inputs: Inputs, rows: list[LayerInfo], seconds: float = 20.0
) -> dict[str, int]:
    """FLOPs by layer path for one sample; a multiply-add counts as two.

    What cannot run without values (such as a loop over what a mask holds) runs for real instead.
    Raises whatever the model raises then, and TooLong after so many `seconds` of wall time.
    """
    deadline = time.monotonic() + seconds
    names = {row.weight: row.path for row in rows if row.gemm and "Embedding" not in row.kind}
    args, kwargs = inputs(1)
    known = {**module.state_dict(keep_vars=True), **dict(_buffers(module))}
    meta = {name: tensor.detach().to("meta") for name, tensor in known.items()}
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), _Counter(names, meta, deadline) as counter:
            torch.func.functional_call(module, meta, _meta(args), _meta(kwargs), tie_weights=False)
    except TooLong:
        raise
    except Exception:  # any model code may run here, and may ask for values
        with torch.no_grad(), _Counter(names, known, deadline) as counter:
            module(*args, **kwargs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return counter.flops


def _buffers(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Those too that the state dict leaves out."""
    return module.named_buffers(remove_duplicate=False)


class _Counter(TorchDispatchMode):
    """Adds up `flops` by path while a model runs on the tensors `state`, until `deadline`."""

    def __init__(
        self, names: Mapping[str, str], state: Mapping[str, Tensor], deadline: float
    ) -> None:
        super().__init__()
        self._deadline = deadline
        self.flops: dict[str, int] = {}
        # A view of a weight, such as its transpose or one third of it, has the weight's storage.
        self._paths = {_storage(state[name]): path for name, path in names.items()}
        self._kept: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if time.monotonic() > self._deadline:
            raise TooLong("the model did not end in time")
        output = func(*args, **(kwargs or {}))
        paths = [self._paths.get(_storage(a)) for a in args if isinstance(a, Tensor)]
        for path in {path for path in paths if path is not None}:
            name = func.overloadpacket.__name__
            self.flops[path] = self.flops.get(path, 0) + _flops(name, args, output)
            if name in _COPIES and output.is_meta:
                self._paths[_storage(output)] = path
                self._kept.append(output)  # so that no other tensor gets its place
        return output


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _flops(name: str, args: tuple[Any, ...], output: Any) -> int:
    """What one operation on a weight costs; 0 for one that is no product."""
    if name in _PRODUCTS:
        return 2 * int(output.numel()) * int(args[0].shape[-1])
    if name in _SUMMED_PRODUCTS:
        return 2 * int(output.numel()) * int(args[1].shape[-1])
    if name == "convolution":
        x, weight, transposed = args[0], args[1], args[6]
        # Each place of the smaller side meets each weight of its channel once.
        places = x.numel() // weight.shape[0] if transposed else output.numel() // weight.shape[0]
        return 2 * int(weight.numel()) * int(places)
    return 0


def _meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    if isinstance(value, (list, tuple)):
        return type(value)(_meta(v) for v in value)
    if isinstance(value, dict):
        return {k: _meta(v) for k, v in value.items()}
    return value
