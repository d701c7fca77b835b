"""The report of a run, from its masks."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ..bitmasks import BitMask
from ..export.storage import compressed_bytes
from ..levels import SharedBytes
from ..machine import describe
from ..masks import Masks
from ..models.model import Model
from ..models.weights_table import is_parameter
from ..plan import Plan, Rule
from ..report import LayerReport, LevelReport, Report
from .remarks import pattern_word, remarks


@dataclass(frozen=True)
class Account:
    """What a run asked for and took.

    `requested` are the allocated sparsities by path, `taken` the layers with zeros taken over;
    accuracies are (dense, pruned), None without data. `history` is `Learning.history`. `levels` and
    `shared` are there where masks are nested.
    """

    rules: Mapping[str, Rule]
    requested: Mapping[str, float]
    taken: Container[str]
    accuracies: tuple[float | None, float | None]
    steps: int
    seconds: float
    notes: tuple[str, ...]
    history: tuple[tuple[int, dict[str, float]], ...] = ()
    levels: tuple[LevelReport, ...] = ()
    shared: SharedBytes | None = None


def report_of(
    model: Model, plan: Plan, masks: Masks, course: Account, digest: str, folder: Path | None
) -> Report:
    """The report of a finished run. `folder` is where the compressed file is tried, if any."""
    return Report(
        model=model.address,
        name=model.info.name,
        digest=digest,
        layers=tuple(
            _layer(layer.path, masks.layers.packed[layer.path], course)
            for layer in model.info.prunable
            if layer.path in masks.layers
        ),
        params=model.info.params,
        nonzeros=nonzeros_of(model, masks),
        dense_bytes=model.info.bytes,
        compressed_bytes=compressed_bytes(model, masks, folder),
        accuracy_dense=course.accuracies[0],
        accuracy_pruned=course.accuracies[1],
        steps=course.steps,
        seconds=round(course.seconds, 3),
        machine=describe(),
        plan=plan.to_json(),
        notes=(
            *course.notes,
            *_whole(masks, course),
            *remarks(model.info, masks, course.rules, course.requested),
        ),
        history=course.history,
        levels=course.levels,
        shared=course.shared,
    )


def nonzeros_of(model: Model, masks: Masks) -> int:
    """Parameters that are not zero under the masks; nothing of the size of the model is made."""
    flags = masks.by_parameter(model.info)
    total = 0
    for name in _parameters(model):
        tensor = model.state[name].detach()
        kept = tensor if name not in flags else tensor.masked_fill(~flags[name], 0)
        total += int(torch.count_nonzero(kept))
    return total


def _whole(masks: Masks, course: Account) -> list[str]:
    """What layers that go as a whole came to together: each alone has all of it or nothing."""
    whole = [path for path, rule in course.rules.items() if rule.pattern.whole]
    if not whole:
        return []
    found = [masks.layers.packed[path] for path in whole]
    weights = sum(mask.numel for mask in found)
    zeros = weights - sum(mask.kept for mask in found)
    pairs = zip(whole, found, strict=True)
    asked = sum(course.requested[path] * mask.numel for path, mask in pairs) / weights
    words = (
        f"layers that go as a whole: {100 * asked:.1f} % asked, {100 * zeros / weights:.1f} % "
        "reached; each goes or stays"
    )
    if zeros:
        return [words]
    return [
        f"{words}, and no layer went: taking the lowest-scored one would overshoot what the plan "
        "asks for; ask for a higher sparsity"
    ]


def _layer(path: str, mask: BitMask, course: Account) -> LayerReport:
    zeros = mask.numel - mask.kept
    achieved = zeros / mask.numel
    rule = course.rules.get(path)
    if rule is None:
        return LayerReport(path, "zeros", achieved, achieved, mask.numel, zeros)
    requested = course.requested[path]
    beside = path in course.taken and rule.pattern.fixed_sparsity is not None
    if rule.pattern.whole or beside:
        # Decided when the mask was made: whether the layer goes, or what N:M and zeros need both.
        requested = achieved
    return LayerReport(path, pattern_word(rule), requested, achieved, mask.numel, zeros)


def _parameters(model: Model) -> list[str]:
    """Names of all parameters, tied ones once."""
    if model.module is not None:
        return [name for name, _ in model.module.named_parameters()]
    return [name for name in model.state if is_parameter(name)]
