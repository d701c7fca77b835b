"""Compaction: a module in which removed channels are really gone.

The masks are committed to a copy, and every channel that nothing needs any more is cut out of it
and of all that hangs together with it. The result computes the same as the masked model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .dependencies import Channels, axes, first_line, is_depthwise, trace_module
from .dependencies.spaces import Flags, flags
from .masks import Masks
from .models.model import Model

# Cutting an output can free the inputs that only it needed, and so on towards the model's input.
_ROUNDS = 4
# Sums in another order: the largest relative difference that is only rounding.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 6e-2, torch.float16: 1e-2}


@dataclass(frozen=True)
class Compacted:
    """A compacted copy of a model.

    `removed` counts the outputs that went by layer path, `inputs_removed` the input channels (of a
    linear layer the input features). `notes` say what stayed and why. `params` counts parameters
    `before` and `after`, shared ones once.
    """

    module: nn.Module
    removed: dict[str, int]
    inputs_removed: dict[str, int]
    notes: tuple[str, ...]
    params_before: int
    params_after: int


def compact(model: Model, masks: Masks) -> Compacted:
    """Return a copy of the model's module with `masks` committed and needless channels removed.

    The outputs equal those of the masked model up to the order of summation, which is checked on
    one example; where that fails nothing is removed, and a note says so. The model itself is left
    as it was. Raises BadInput for a model that can't run.
    """
    module = committed(model, masks)
    before = count(module)
    if model.inputs is None:
        note = "nothing was removed: no example input is known, so the model could not be traced"
        return Compacted(module, {}, {}, (note,), before, before)
    args, kwargs = model.inputs(1)
    try:
        expected = _run(module, args, kwargs)
    except Exception as error:  # whatever a stranger's forward raises
        note = f"nothing was removed: the model fails on its example input: {first_line(error)}"
        return Compacted(module, {}, {}, (note,), before, before)
    small = copy.deepcopy(module)
    removed: dict[str, int] = {}
    inputs_removed: dict[str, int] = {}
    channels = Channels()
    for _ in range(_ROUNDS):
        channels = trace_module(small, args, kwargs)
        if not _cut(small, channels, removed, inputs_removed):
            break
    problem = _differs(small, args, kwargs, expected) if removed or inputs_removed else None
    if problem is not None:
        note = f"nothing was removed: the smaller model {problem}"
        return Compacted(module, {}, {}, (note,), before, before)
    notes = tuple(_notes(small, channels, masks))
    return Compacted(small, removed, inputs_removed, notes, before, count(small))


def committed(model: Model, masks: Masks) -> nn.Module:
    """A deep copy of the model's module in which pruned weights are zero."""
    module = copy.deepcopy(model.runnable())
    parameters = dict(module.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, mask in masks.by_parameter(model.info).items():
            parameters[name].masked_fill_(~mask.to(parameters[name].device), 0)
    return module


def count(module: nn.Module) -> int:
    """Number of parameters; those that several modules share count once."""
    return sum(p.numel() for p in module.parameters())


def _cut(
    module: nn.Module, channels: Channels, removed: dict[str, int], inputs: dict[str, int]
) -> bool:
    """Cut out what `channels` says is not needed; returns whether anything was."""
    done = False
    for kept_by_path, counts, cut in (
        (channels.outputs, removed, cut_outputs),
        (channels.inputs, inputs, _cut_inputs),
        (channels.norms, None, _cut_norm),
    ):
        for path, kept in kept_by_path.items():
            gone = int((~kept).sum())
            if gone:
                cut(module.get_submodule(path), torch.from_numpy(np.flatnonzero(kept)))
                done = True
                if counts is not None:
                    counts[path] = counts.get(path, 0) + gone
    return done


def cut_outputs(layer: Any, kept: Tensor) -> None:
    """Keep only the outputs `kept` (int64) of a linear layer or convolution, in place.

    A depthwise convolution loses the inputs too.
    """
    depthwise = is_depthwise(layer)
    _select(layer, "weight", axes(layer)[0], kept)
    _select(layer, "bias", 0, kept)
    if isinstance(layer, nn.Linear):
        layer.out_features = len(kept)
    else:
        layer.out_channels = len(kept)
        if depthwise:
            layer.in_channels = layer.groups = len(kept)


def _cut_inputs(layer: Any, kept: Tensor) -> None:
    _select(layer, "weight", axes(layer)[1], kept)
    if isinstance(layer, nn.Linear):
        layer.in_features = len(kept)
    else:
        layer.in_channels = len(kept)


def _cut_norm(norm: Any, kept: Tensor) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        _select(norm, name, 0, kept)
    norm.num_features = len(kept)


def _select(module: nn.Module, name: str, axis: int, kept: Tensor) -> None:
    """Keep only some entries of a parameter or buffer along `axis`."""
    tensor = getattr(module, name)
    if tensor is None:
        return
    smaller = tensor.detach().index_select(axis, kept.to(tensor.device)).contiguous()
    if isinstance(tensor, nn.Parameter):
        smaller = nn.Parameter(smaller, tensor.requires_grad)
    setattr(module, name, smaller)


def _run(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    with torch.inference_mode():
        return list(_tensors(module(*args, **kwargs)))


def _tensors(value: Any) -> Any:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def _differs(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], expected: list[Tensor]
) -> str | None:
    """What is wrong with the module's outputs, None if they are as expected."""
    try:
        outputs = _run(module, args, kwargs)
    except Exception as error:  # whatever a stranger's forward raises on fewer channels
        return f"could not run: {first_line(error)}"
    for output, right in zip(outputs, expected, strict=True):
        if output.shape != right.shape:
            return f"gave an output of {tuple(output.shape)} instead of {tuple(right.shape)}"
        scale = float(right.abs().max()) if right.numel() else 0.0
        difference = float((output - right).abs().max()) if right.numel() else 0.0
        if not difference <= _TOLERANCE.get(right.dtype, 0.0) * max(scale, 1e-6):
            return f"gave other outputs, by {difference:.3g} where the largest is {scale:.3g}"
    return None


def _notes(module: nn.Module, channels: Channels, masks: Masks) -> Any:
    """A sentence for each pruned layer in which empty outputs are left."""
    modules = dict(module.named_modules())
    for path, mask in masks.layers.items():
        left = _empty_outputs(modules.get(path), mask)
        if not left:
            continue
        reason = channels.fixed(path)
        if reason is None:
            others = channels.partners(path) or channels.consumers(path)
            named = ", ".join(others[:3]) + (" …" if len(others) > 3 else "")
            if channels.partners(path):
                reason = f"they go only together with the same outputs of {named}"
            else:
                reason = f"{named} does not read them as zero"
        yield f"{path} keeps {left} empty output{'s' * (left != 1)}: {reason}"


def _empty_outputs(layer: Any, mask: Tensor) -> int:
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() < 2:
        return int((~mask.any(dim=1)).sum())
    axis = axes(layer)[0]
    empty: Flags = flags((weight == 0).transpose(0, axis).flatten(1).all(dim=1))
    return int(empty.sum())


__all__ = ["Compacted", "committed", "compact", "count", "cut_outputs"]
