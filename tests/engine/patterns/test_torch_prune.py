"""Whole runs of a plan against torch.nn.utils.prune, wherever both can do the same.

Ours ranks a unit by the mean of its scores, torch by its norm. With magnitude's norm 1 the mean is
the L1 norm by the unit's size, with norm 2 the square of the L2 norm by its size: the same order
within a layer, where units are equally large.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from secateur.engine.models.build import from_module
from secateur.engine.models.model import Model
from secateur.engine.plan import Plan
from secateur.engine.runs.runner import Run

PATHS = ("wide", "grouped", "line", "fc", "head")
AMOUNTS = (0.1, 0.333, 0.5, 0.87)


def make() -> Model:
    torch.manual_seed(5)
    layers = {
        "wide": nn.Conv2d(6, 10, 3),
        "grouped": nn.Conv2d(10, 8, (2, 3), groups=2),
        "line": nn.Conv1d(8, 7, 5),
        "fc": nn.Linear(33, 21),
        "head": nn.Linear(21, 9, bias=False),
    }
    return from_module(nn.ModuleDict(layers), address="made", name="made", inputs=None)


def masks_of(model: Model, **plan: Any) -> dict[str, torch.Tensor]:
    """The masks that a run of the plan sets, in the parameters' own shapes."""
    run = Run(model, Plan.from_json(plan))
    list(run.events())
    masks = run.masks.layers
    return {path: model.info.layer(path).gemm.store(masks[path]) for path in masks}


def rule(pattern: str, sparsity: float, norm: int, layers: str = "*") -> dict[str, Any]:
    criterion = {"kind": "magnitude", "norm": norm}
    return {"layers": layers, "pattern": pattern, "criterion": criterion, "sparsity": sparsity}


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("norm", [1, 2])
def test_single_weights_as_l1_unstructured(amount: float, norm: int) -> None:
    model = make()
    masks = masks_of(model, rules=[rule("element", amount, norm)])
    other = copy.deepcopy(model.runnable())
    for path in PATHS:
        torch_prune.l1_unstructured(other[path], "weight", amount=amount)
        assert torch.equal(masks[path], other[path].weight_mask.bool()), path


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize(
    ("pattern", "dim", "paths"),
    [
        ("filter", 0, PATHS),
        ("row", 0, PATHS),
        ("channel", 1, PATHS),
        ("column", 1, ("fc", "head")),
        ("group", 1, ("fc", "head")),
    ],
)
def test_units_as_ln_structured(
    pattern: str, dim: int, paths: tuple[str, ...], amount: float, norm: int
) -> None:
    model = make()
    masks = masks_of(model, rules=[rule(pattern, amount, norm, path) for path in paths])
    other = copy.deepcopy(model.runnable())
    for path in paths:
        torch_prune.ln_structured(other[path], "weight", amount=amount, n=norm, dim=dim)
        assert torch.equal(masks[path], other[path].weight_mask.bool()), path


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("norm", [1, 2])
def test_one_threshold_as_global_unstructured(amount: float, norm: int) -> None:
    model = make()
    with torch.no_grad():
        for path in PATHS:  # tails, so that no layer is emptied, which ours never does
            model.weight(path).normal_().mul_(0.7 if path == "fc" else 1.0)
    masks = masks_of(model, rules=[rule("element", amount, norm)], allocation="global")
    other = copy.deepcopy(model.runnable())
    torch_prune.global_unstructured(
        [(other[path], "weight") for path in PATHS], torch_prune.L1Unstructured, amount=amount
    )
    for path in PATHS:
        assert torch.equal(masks[path], other[path].weight_mask.bool()), path
    left = {path: float(mask.float().mean()) for path, mask in masks.items()}
    assert left["fc"] < left["head"]


@pytest.mark.parametrize("amount", AMOUNTS)
def test_random_takes_as_many(amount: float) -> None:
    model = make()
    other = copy.deepcopy(model.runnable())
    rules = [{"layers": "*", "criterion": "random", "sparsity": amount}]
    single = masks_of(model, rules=[{**rules[0], "pattern": "element"}])
    filters = masks_of(model, rules=[{**rules[0], "pattern": "filter"}])
    for path in PATHS:
        module = other[path]
        torch_prune.random_unstructured(module, "weight", amount=amount)
        assert int(single[path].sum()) == int(module.weight_mask.sum())
        torch_prune.remove(module, "weight")
        torch_prune.random_structured(module, "weight", amount=amount, dim=0)
        alive = module.weight_mask.flatten(1).any(dim=1)
        assert int(filters[path].flatten(1).any(dim=1).sum()) == int(alive.sum())
