"""What holds for one model: its layer table, every pattern on it, a masked run, a smaller copy."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from secateur.engine.compaction import compact
from secateur.engine.criteria import CRITERIA
from secateur.engine.info import ModelInfo
from secateur.engine.masks import Masks, masked
from secateur.engine.models import open_model
from secateur.engine.models.model import Model
from secateur.engine.patterns import PATTERNS
from secateur.engine.patterns.base import Pattern
from secateur.engine.plan import Plan
from secateur.engine.runs.runner import Run

SPARSITY = 0.5
CRITERION = CRITERIA.parse("magnitude")
# A parameter is multiplied as a matrix if it is called what torch and transformers call matrices.
_MATRIX = re.compile(r"(^|[._])(weight|proj_weight|weight_(ih|hh|hr)_?l?\d*(_reverse)?)$")
_EXPERTS = re.compile(r"(^|\.)experts\.\w+_proj$")


@dataclass
class Row:
    """One model's row. `failures` is empty where all went well; everything else is for people.

    `found` and `expected` count prunable matrices, `unlike` names those in which they differ.
    `patterns` counts the layers that each pattern pruned, `unfit` are those that fit no layer.
    `smaller` and `headless` are the shares of the parameters that are left without half of the
    filters, and of the heads (None: not tried), `difference` is the largest difference to the
    masked model by the largest output, `reason` why nothing, or not more, went.
    """

    name: str
    params: int = 0
    found: int = 0
    expected: int = 0
    unlike: list[str] = field(default_factory=list)
    patterns: dict[str, int] = field(default_factory=dict)
    unfit: list[str] = field(default_factory=list)
    forward: str = ""
    smaller: float | None = None
    headless: float | None = None
    difference: float | None = None
    reason: str = ""
    flops: bool = False
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def examine(name: str, address: str, thorough: bool = False) -> Row:
    """Open the model at `address` and try everything; what fails is said in the row.

    `thorough` gives each pattern a run over all layers that it fits; otherwise the patterns share
    as few runs as they can.
    """
    row = Row(name)
    with _step(row, "open"):
        model = open_model(address)
        _count(row, model)
    if not row.failures:
        unsettle(model)
        row.unfit = [kind for kind, paths in fits(model.info).items() if not paths]
        with _step(row, "patterns"):
            for plan in plans(model.info, thorough):
                _prune(row, model, plan)
        with _step(row, "structured"):
            row.smaller = _without(row, model, "filter")
        if any(layer.gemm and layer.gemm.head for layer in model.info.prunable):
            with _step(row, "heads"):
                row.headless = _without(row, model, "head")
    return row


class _step:
    """Times a part of the work and turns what it raises into words."""

    def __init__(self, row: Row, name: str) -> None:
        self._row, self._name = row, name

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        self._row.seconds[self._name] = time.perf_counter() - self._start
        if isinstance(error, Exception):
            words = " ".join(str(error).split())[:200]
            self._row.failures.append(f"{self._name}: {kind.__name__}: {words}")
        return isinstance(error, Exception)


def _count(row: Row, model: Model) -> None:
    info = model.info
    found, expected = {layer.weight for layer in info.prunable}, matrices(model.runnable())
    row.params, row.notes = info.params, list(info.notes)
    row.found, row.expected = len(found), len(expected)
    row.unlike = sorted(found ^ expected)
    row.flops = any(layer.flops for layer in info.prunable)
    if row.unlike:
        row.failures.append(f"other layers than expected: {', '.join(row.unlike[:4])}")


def matrices(module: nn.Module) -> set[str]:
    """Names of the weights that are matrices, counted without our table: by name and shape.

    Embeddings are none, nor what shares an embedding's tensor; a shared matrix counts once.
    """
    tables = [child for child in module.modules() if "Embedding" in type(child).__name__]
    looked_up = {id(getattr(table, "weight", None)) for table in tables}
    return {
        name
        for name, parameter in module.named_parameters()
        if parameter.ndim >= 2 and id(parameter) not in looked_up
        if _MATRIX.search(name) or (parameter.ndim == 3 and _EXPERTS.search(name))
    }


@torch.no_grad()
def unsettle(model: Model) -> None:
    """Give fresh biases, norms and scales values in which a mistake would show."""
    generator = torch.Generator().manual_seed(3)
    matrix = {layer.weight for layer in model.info.layers if layer.gemm}
    for name, tensor in model.state.items():
        if not tensor.is_floating_point():
            continue
        if name not in matrix:  # only upwards: a variance stays positive
            tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator).to(tensor.dtype))
        elif not bool(tensor.any()):
            tensor.copy_(0.02 * torch.randn(tensor.shape, generator=generator))


def plans(info: ModelInfo, thorough: bool) -> Iterator[Plan]:
    """Plans that together run every pattern, at its default settings, on layers that it fits."""
    waiting = {kind: paths for kind, paths in fits(info).items() if paths}
    while waiting:
        # The rarest first: each pattern gets a fair part of the layers that are still free.
        kinds = sorted(waiting, key=lambda kind: len(waiting[kind]))[: 1 if thorough else None]
        share: dict[str, str] = {}
        for index, kind in enumerate(kinds):
            free = [path for path in waiting[kind] if path not in share]
            part = math.ceil(len(free) / (len(kinds) - index))
            share |= dict.fromkeys(free[:part], kind)
        for kind in set(share.values()):
            del waiting[kind]
        yield plan_of(share)


def fits(info: ModelInfo) -> dict[str, list[str]]:
    """The layers on which each pattern may lie."""
    return {
        kind: [layer.path for layer in info.prunable if fitting(pattern, layer)]
        for kind, pattern in defaults().items()
    }


def defaults() -> dict[str, Pattern]:
    """Every pattern by its kind, as its short form without settings gives it."""
    return {kind: cls() for kind, cls in PATTERNS.kinds().items()}


def fitting(pattern: Pattern, layer: Any) -> bool:
    """Whether the pattern may lie on the layer with the matrix' criterion."""
    return not (pattern.misfit(layer) or CRITERION.misfit(layer, pattern))


def plan_of(share: Mapping[str, str]) -> Plan:
    """Each layer under the kind of pattern that `share` gives it, the others dense."""
    patterns, rules = defaults(), []
    for path, kind in share.items():
        rule: dict[str, Any] = {"layers": path, "pattern": patterns[kind].to_plan()}
        if patterns[kind].fixed_sparsity is None:
            rule["sparsity"] = SPARSITY
        rules.append(rule)
    return Plan.from_json({"rules": rules})


def _prune(row: Row, model: Model, plan: Plan) -> None:
    masks = one_shot(model, plan)
    for path, mask in masks.layers.items():
        rule = plan.rule_for(path)
        assert rule is not None
        kind = type(rule.pattern).kind
        row.patterns[kind] = row.patterns.get(kind, 0) + 1
        if mask.shape != model.info.layer(path).gemm.shape:  # type: ignore[union-attr]
            row.failures.append(f"{path}: {kind} gave a mask of {tuple(mask.shape)}")
    with masked(model, masks):
        found = outputs(model, model.runnable())
    finite = all(bool(torch.isfinite(each).all()) for each in found if each.is_floating_point())
    row.forward = "finite" if finite and found else "not finite"
    if row.forward != "finite":
        row.failures.append("the masked model's outputs are not finite")


def one_shot(model: Model, plan: Plan) -> Masks:
    """The masks of a plan's run."""
    run = Run(model, plan, device="cpu")
    for _ in run.events():
        pass
    assert run.outcome is not None
    return run.outcome.masks


def _without(row: Row, model: Model, kind: str) -> float:
    """The share of the parameters that is left when half of the units are really removed."""
    masks = one_shot(model, plan_of(dict.fromkeys(fits(model.info)[kind], kind)))
    with masked(model, masks):
        expected = outputs(model, model.runnable())
    result = compact(model, masks)
    row.reason = "; ".join(result.notes) or row.reason
    worst = row.difference or 0.0
    for found, right in zip(outputs(model, result.module), expected, strict=True):
        scale = float(right.abs().max()) or 1.0
        worst = max(worst, float((found - right).abs().max()) / scale)
    row.difference = worst
    if not worst < 1e-3:
        row.failures.append(f"without half of its {kind}s it computes something else: {worst:.2g}")
    return result.params_after / result.params_before


@torch.inference_mode()
def outputs(model: Model, module: nn.Module) -> list[Tensor]:
    """All tensors that the module gives for the model's example, flat."""
    if model.inputs is None:
        raise RuntimeError("no example input is known")
    args, kwargs = model.inputs(1)
    return list(_tensors(module(*args, **kwargs)))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each)
