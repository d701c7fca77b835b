"""Compaction: a module in which removed channels are really gone.

The masks are committed to a copy, and every channel that nothing needs any more is cut out of it
and of all that hangs together with it. The result computes the same as the masked model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..dependencies import Channels, first_line, trace_module
from ..info import LayerInfo
from ..masks import Masks
from ..models.model import Model
from .cutting import Heads, cut, cut_outputs, fit_heads, is_depthwise

# Cutting an output can free the inputs that only it needed, and so on towards the model's input.
_ROUNDS = 4
# How often a smaller model is tried with fewer cuts in one round.
_TRIES = 24
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


@dataclass(frozen=True)
class Group:
    """Cuts that go only together: by parameter and dimension what stays, int64; and heads."""

    cuts: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    heads: tuple[Heads, ...] = ()


def compact(model: Model, masks: Masks) -> Compacted:
    """Return a copy of the model's module with `masks` committed and needless channels removed.

    The outputs equal those of the masked model up to the order of summation, which is checked on
    one example; what fails there stays, and a note says so. The model itself is left as it was.
    Raises BadInput for a model that can't run.
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
    trial = _Trial(args, kwargs, expected)
    small = module
    notes: dict[str, None] = {}
    kept_whole: set[str] = set()
    channels = Channels()
    for _ in range(_ROUNDS):
        channels = trace_module(small, args, kwargs, model.info.layers)
        groups = [g for g in _groups(channels) if kept_whole.isdisjoint(g.cuts)]
        if not groups:
            break
        smaller, failed = trial.cut(small, groups)
        for group, problem in failed:
            kept_whole.update(group.cuts)
            notes[f"{_named(group)} kept whole: the smaller model {problem}"] = None
        if smaller is small and not failed:
            break
        small = smaller
    if small is not module and channels.note:
        notes[channels.note] = None
    removed, inputs_removed = _counts(module, small, model.info.layers)
    if not removed and not inputs_removed and notes:
        notes = dict.fromkeys(f"nothing was removed: {note}" for note in notes)
    notes |= dict.fromkeys(_notes(small, channels, masks, model.info.layers))
    return Compacted(small, removed, inputs_removed, tuple(notes), before, count(small))


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


def _groups(channels: Channels) -> list[Group]:
    """The cuts that `channels` allows, apart where they have nothing in common."""
    if channels.recording is None:
        return []
    full, dims = channels.classes.full, channels.recording.dims
    kept = channels.kept()
    leader: dict[int, int] = {}

    def find(label: int) -> int:
        while leader.setdefault(label, label) != label:
            label = leader[label]
        return label

    gone: dict[tuple[str, int], int] = {}
    for name, by_dim in kept.items():
        for dim, flags in by_dim.items():
            ids = dims[name][dim]
            assert ids is not None
            labels = np.unique(full[ids[~flags]]).tolist()
            for label in labels:
                leader[find(label)] = find(labels[0])
            gone[name, dim] = labels[0]
    # A parameter is cut as a whole, so that all its dimensions belong to one attempt.
    found: dict[int, Group] = {}
    for (name, dim), label in gone.items():
        group = found.setdefault(find(label), Group())
        group.cuts.setdefault(name, {})[dim] = torch.from_numpy(np.flatnonzero(kept[name][dim]))
    return [replace(g, heads=tuple(_heads(channels, g))) for g in found.values()]


def _heads(channels: Channels, group: Group) -> Iterator[Heads]:
    for path, row in channels.rows.items():
        kept = group.cuts.get(row.weight, {}).get(row.into)
        width = channels.heads(path) if kept is not None else None
        if width and kept is not None:
            assert channels.recording is not None
            ids = channels.recording.dims[row.weight][row.into]
            assert ids is not None
            yield Heads(row.weight, len(ids), len(ids) // width, len(kept) // width)


@dataclass(frozen=True)
class _Trial:
    """Tries cuts and keeps those that leave the outputs as they are."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    expected: list[Tensor]

    def cut(
        self, module: nn.Module, groups: Sequence[Group]
    ) -> tuple[nn.Module, list[tuple[Group, str]]]:
        """A smaller copy, or `module` itself, and the groups that failed with the reason."""
        failed: list[tuple[Group, str]] = []
        tries = 0
        waiting = [list(groups)]
        while waiting:
            some = waiting.pop()
            smaller, problem = self._attempt(module, some)
            tries += 1
            if problem is None:
                module = smaller
                continue
            kinds = _by_kind(module, some)
            if len(kinds) > 1:
                waiting += kinds
            elif some[0].heads and len(some) > 1 and not self._can(module, some[0]):
                # Attentions of one kind that can't have fewer heads are all alike in that.
                failed += [(group, problem) for group in some]
            elif len(some) == 1 or tries >= _TRIES:
                failed += [(group, problem) for group in some]
            else:
                half = len(some) // 2
                waiting += [some[half:], some[:half]]
        return module, failed

    def _can(self, module: nn.Module, group: Group) -> bool:
        return self._attempt(module, [group])[1] is None

    def _attempt(self, module: nn.Module, groups: Sequence[Group]) -> tuple[nn.Module, str | None]:
        problem: str | None = None
        any_heads = any(group.heads for group in groups)
        for widths in (True, False) if any_heads else (True,):
            small = copy.deepcopy(module)
            try:
                for group in groups:
                    for heads in group.heads:
                        fit_heads(small, heads, _near(heads.name, list(group.cuts)), widths)
                    cut(small, group.cuts)
            except Exception as error:  # a module that has its weights in a way of its own
                problem = problem or f"could not be made: {first_line(error)}"
                continue
            found = _differs(small, self.args, self.kwargs, self.expected)
            if found is None:
                return small, None
            problem = problem or found
        return module, problem


def _by_kind(module: nn.Module, groups: Sequence[Group]) -> list[list[Group]]:
    """The groups without heads, and the others by the class whose heads they are."""
    kinds: dict[str, list[Group]] = {}
    for group in groups:
        kind = ""
        if group.heads:
            owner = group.heads[0].name.rsplit(".", 2)[0]
            kind = type(module.get_submodule(owner if "." in group.heads[0].name else "")).__name__
        kinds.setdefault(kind, []).append(group)
    return list(kinds.values())


def _near(name: str, names: list[str]) -> list[str]:
    """Of all parameters that lose heads those nearest to the projection `name`.

    Where a table of positions is shared by all layers they go together, but every layer has a
    module of its own that knows how many there are.
    """
    path = name.split(".")[:-1]
    for end in range(len(path), -1, -1):
        front = ".".join(path[:end])
        inside = [n for n in names if not front or n.startswith(f"{front}.")]
        if any(n != name and not n.endswith("bias") for n in inside):
            return inside
    return names


def _run(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    with torch.inference_mode():
        return list(_tensors(module(*args, **kwargs)))


def _tensors(value: Any) -> Iterator[Tensor]:
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
        if not right.is_floating_point():
            if not torch.equal(output, right):
                return "gave other outputs"
            continue
        scale = float(right.abs().max()) if right.numel() else 0.0
        difference = float((output - right).abs().max()) if right.numel() else 0.0
        if not difference <= _TOLERANCE.get(right.dtype, 0.0) * max(scale, 1e-6):
            return f"gave other outputs, by {difference:.3g} where the largest is {scale:.3g}"
    return None


def _counts(
    before: nn.Module, after: nn.Module, layers: Sequence[LayerInfo]
) -> tuple[dict[str, int], dict[str, int]]:
    """How many outputs and input channels each layer lost, where it lost any."""
    removed: dict[str, int] = {}
    inputs: dict[str, int] = {}
    old = dict(before.named_parameters(remove_duplicate=False))
    new = dict(after.named_parameters(remove_duplicate=False))
    for layer in layers:
        if layer.gemm is None or layer.weight not in new:
            continue
        out = int(layer.gemm.transposed)
        for counts, dim in ((removed, out), (inputs, 1 - out)):
            gone = old[layer.weight].shape[dim] - new[layer.weight].shape[dim]
            if gone:
                counts[layer.path] = gone
    return removed, inputs


def _named(group: Group) -> str:
    names = [n.removesuffix(".weight") for n in group.cuts if not n.endswith("bias")]
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def _notes(
    module: nn.Module, channels: Channels, masks: Masks, layers: Sequence[LayerInfo]
) -> Iterator[str]:
    """A sentence for each pruned layer in which empty outputs are left."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    by_path = {layer.path: layer for layer in layers}
    for path in masks.layers:
        layer = by_path[path]
        weight = parameters[layer.weight].detach()
        axis = int(layer.gemm is not None and layer.gemm.transposed)
        left = int((weight == 0).transpose(0, axis).flatten(1).all(dim=1).sum())
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


__all__ = ["Compacted", "committed", "compact", "count", "cut_outputs", "is_depthwise"]
