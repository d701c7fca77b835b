"""Whole runs against derivations by hand: autograd, hooks, sums over all pairs, bisection, float64.

Statistics and formulas have tests of their own; here a plan goes in and masks come out, and what
should be in them is computed from the publications' formulas without any of the engine's code.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.engine.data import load_data
from secateur.engine.models.build import from_module
from secateur.engine.models.model import Model
from secateur.engine.plan import Plan
from secateur.engine.runs.runner import Run

DATA = load_data("sample:digits")
IMAGES, LABELS = DATA.train.take(torch.arange(len(DATA.train)))
ALL = 1_000_000  # samples asked for: all of the training split, so that their order is no matter
PATHS = ("first", "second", "fc")
# How often each weight is used on one 8x8 image, by hand.
POSITIONS = {"first": 8 * 8, "second": 3 * 3, "fc": 1}


def example(batch: int) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    return (torch.zeros(batch, 1, 8, 8),), {}


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    layers = OrderedDict(
        first=nn.Conv2d(1, 6, 3, padding=1),
        bend=nn.Tanh(),
        second=nn.Conv2d(6, 8, 3, stride=2),
        bend2=nn.Tanh(),
        flat=nn.Flatten(),
        fc=nn.Linear(8 * 3 * 3, 10),
    )
    return from_module(nn.Sequential(layers), address="made", name="made", inputs=example)


def run_of(model: Model, criterion: Any = "magnitude", layers: str = "*", **more: Any) -> Run:
    pattern, sparsity = more.pop("pattern", "element"), more.pop("sparsity", 0.6)
    rule = {"layers": layers, "pattern": pattern, "criterion": criterion, "sparsity": sparsity}
    training = {"data": "sample:digits", "epochs": 0}
    run = Run(model, Plan.from_json({"rules": [rule], "training": training, **more}))
    list(run.events())
    return run


def flat(weight: Tensor) -> Tensor:
    return weight.reshape(len(weight), -1)


def check_lowest(scores: Tensor, kept: Tensor, count: int, slack: float = 1e-3) -> None:
    """`count` entries went and they are the lowest; neighbours of the cut may change places."""
    assert int((~kept).sum()) == count
    cut = scores.double().flatten().sort().values[count - 1 : count + 1]
    room = slack * float(cut.abs().max())
    assert float(scores[~kept].max()) <= float(cut[1]) + room
    assert float(scores[kept].min()) >= float(cut[0]) - room


def gradients(model: Model) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mean gradient, and mean squared gradient of single samples, by layer; float64."""
    state = {name: tensor.double() for name, tensor in model.state.items()}

    def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        scores = torch.func.functional_call(model.module, weights, (image.unsqueeze(0),))
        return F.cross_entropy(scores, label.unsqueeze(0))

    each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(state, IMAGES.double(), LABELS)
    single = {path: each[f"{path}.weight"].flatten(2) for path in PATHS}
    mean = {path: gradient.mean(0) for path, gradient in single.items()}
    return mean, {path: gradient.square().mean(0) for path, gradient in single.items()}


@pytest.mark.parametrize(
    "criterion",
    [
        {"kind": "taylor"},
        {"kind": "taylor", "form": "absolute"},
        {"kind": "snip"},
        {"kind": "movement"},
        {"kind": "fisher", "batch": 1},
    ],
    ids=lambda value: "-".join(map(str, value.values())),
)
def test_gradient_criteria_by_autograd(model: Model, criterion: dict[str, Any]) -> None:
    masks = run_of(model, {**criterion, "samples": ALL}).masks.layers
    mean, squares = gradients(model)
    for path in PATHS:
        weight = flat(model.weight(path).double())
        scores = {
            "taylor": (weight * mean[path]).square(),
            "snip": (weight * mean[path]).abs(),
            "movement": -weight * mean[path],
            "fisher": weight.square() * squares[path] / 2,
        }[criterion["kind"]]
        check_lowest(scores, masks[path], round(0.6 * weight.numel()))


def inputs_of(model: Model) -> dict[str, Tensor]:
    """X[in, positions of all samples] of each layer, float64, from hooks and plain unfolding."""
    calls: dict[str, Tensor] = {}
    handles = [
        getattr(model.module, path).register_forward_pre_hook(
            lambda module, args, path=path: calls.update({path: args[0].detach().double()})
        )
        for path in PATHS
    ]
    with torch.no_grad():
        model.module(IMAGES)
    for handle in handles:
        handle.remove()
    first = F.unfold(calls["first"], 3, padding=1)
    second = F.unfold(calls["second"], 3, stride=2)
    columns = {
        path: x.transpose(0, 1).flatten(1) for path, x in (("first", first), ("second", second))
    }
    return {**columns, "fc": calls["fc"].T}


@pytest.mark.parametrize("compare", ["layer", "output"])
def test_wanda_by_hooks(model: Model, compare: str) -> None:
    masks = run_of(model, {"kind": "wanda", "compare": compare, "samples": ALL}).masks.layers
    for path, x in inputs_of(model).items():
        scores = flat(model.weight(path).double()).abs() * x.norm(dim=1)
        if compare == "layer":
            check_lowest(scores, masks[path], round(0.6 * scores.numel()))
        else:  # the lowest of each output's row; what is left over falls to one row or another
            for row, kept in zip(scores, masks[path], strict=True):
                gone = int((~kept).sum())
                assert abs(gone - 0.6 * len(row)) <= 1
                check_lowest(row, kept, gone)


def test_sparsegpt_is_optimal_brain_surgeon_column_by_column(model: Model) -> None:
    """OBS (Hassibi & Stork 1993): error w_p² / [H⁻¹]_pp, update -w_p / [H⁻¹]_pp · H⁻¹[:, p].

    H is inverted anew over the columns that are still to come. 2:4 is chosen when its four columns
    are reached.
    """
    run = run_of(model, {"kind": "obs", "samples": ALL}, "fc", pattern="nm:2:4", sparsity=0.5)
    kept, found = run.masks.layers["fc"], run.outcome.model.matrix("fc")
    x = inputs_of(model)["fc"]
    hessian = x @ x.T
    hessian += 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.double)
    left = model.weight("fc").double().clone()
    for start in range(0, left.shape[1], 4):
        stops = range(start, start + 4)
        errors = torch.stack(
            [left[:, j] ** 2 / torch.linalg.inv(hessian[j:, j:])[0, 0] for j in stops], dim=1
        )
        chosen = kept[:, start : start + 4]
        worst_kept = errors.masked_fill(~chosen, torch.inf).amin(1)
        assert (errors.masked_fill(chosen, 0).amax(1) <= worst_kept * 1.001).all()
        assert (chosen.sum(1) == 2).all()
        for j in stops:
            inverse = torch.linalg.inv(hessian[j:, j:])
            for row in torch.nonzero(~kept[:, j]).flatten():
                left[row, j:] -= left[row, j] / inverse[0, 0] * inverse[0]
                left[row, j] = 0
    assert torch.allclose(found.double(), left, atol=1e-4)
    assert not torch.allclose(found[kept], model.weight("fc")[kept], atol=1e-2)


def lamp(weight: Tensor) -> Tensor:
    """S1 eq. 4 by its definition, over all pairs."""
    squares = flat(weight.double()).square()
    every = squares.flatten()
    at_least = (every >= squares.unsqueeze(-1)).double() @ every
    return squares / at_least


@pytest.mark.parametrize(
    ("criterion", "allocation"), [("magnitude", "lamp"), ("lamp", "global")], ids=str
)
def test_lamp_is_one_threshold_over_its_scores(
    model: Model, criterion: str, allocation: str
) -> None:
    masks = run_of(model, criterion, allocation=allocation, sparsity=0.8).masks.layers
    scores = torch.cat([lamp(model.weight(path)).flatten() for path in PATHS])
    kept = torch.cat([masks[path].flatten() for path in PATHS])
    check_lowest(scores, kept, round(0.8 * len(scores)), slack=1e-5)
    assert len({round(float(masks[path].float().mean()), 3) for path in PATHS}) == 3


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.75, 0.9])
def test_erk_with_layers_that_fill_up(model: Model, sparsity: float) -> None:
    """Density min(1, ε (n_in + n_out + w + h) / (n_in n_out w h)), ε by bisection of the total."""
    sizes = {path: model.weight(path).numel() for path in PATHS}
    raw = {path: sum(model.weight(path).shape) / sizes[path] for path in PATHS}
    budget = (1 - sparsity) * sum(sizes.values())
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        total = sum(min(1.0, middle * raw[path]) * sizes[path] for path in PATHS)
        low, high = (middle, high) if total < budget else (low, middle)
    wanted = {path: min(1.0, low * raw[path]) for path in PATHS}
    masks = run_of(model, allocation="erk", sparsity=sparsity).masks.layers
    for path in PATHS:
        kept = int(masks[path].sum()) if path in masks else sizes[path]
        assert abs(kept - wanted[path] * sizes[path]) <= 0.5 + 1e-6, path
    full = [path for path in PATHS if wanted[path] == 1.0]
    assert bool(full) == (sparsity < 0.6), "both cases are there: a full layer, and none"


@pytest.mark.parametrize("target", [0.15, 0.4, 0.8])
def test_a_flops_target_by_hand(model: Model, target: float) -> None:
    masks = run_of(model, allocation={"kind": "flops", "target": target}).masks.layers
    cost = {path: 2 * POSITIONS[path] for path in PATHS}
    total = sum(cost[path] * model.weight(path).numel() for path in PATHS)
    left = sum(cost[path] * int(masks[path].sum()) for path in PATHS)
    assert abs(left - target * total) <= max(cost.values()) / 2
    # What went saved most operations for what it was worth.
    worth = {path: flat(model.weight(path).double()).square() / cost[path] for path in PATHS}
    gone = max(float(worth[path][~masks[path]].max()) for path in PATHS if not masks[path].all())
    stayed = min(float(worth[path][masks[path]].min()) for path in PATHS)
    assert gone <= stayed * (1 + 1e-5)
