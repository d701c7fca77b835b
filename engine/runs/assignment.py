"""Which layers of a model a plan prunes, and whether it can."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from ..allocation.uniform import Uniform
from ..dependencies import Channels, trace
from ..errors import BadInput, nearest
from ..info import ModelInfo
from ..models.model import Model
from ..patterns.nm import NM
from ..permute import Group, groups
from ..permute import misfit as misfit_of_order
from ..plan import Plan, Rule
from .remarks import pattern_word


@dataclass(frozen=True)
class Assignment:
    """`rules` by the path of each layer that is pruned, in model order; `notes` for the person.

    `groups` has the layers whose input channels are put in an order.
    """

    rules: dict[str, Rule]
    notes: tuple[str, ...] = ()
    groups: dict[str, Group] = field(default_factory=dict)


def assign(model: Model, plan: Plan) -> Assignment:
    """The rule of each layer that the plan prunes.

    Raises BadInput for a rule that matches nothing or does not fit one of its layers, and for a
    plan that prunes nothing; one that takes over zeros may be without rules.
    """
    info = model.info
    if not info.prunable:
        raise BadInput(f"{info.name} has no layer that can be pruned")
    for rule in plan.rules:
        _check_matches(rule, info)
    ends = {info.prunable[0].path, info.prunable[-1].path} if plan.ends == "dense" else set()
    rules: dict[str, Rule] = {}
    channels: Channels | None = None
    skipped: list[str] = []
    for layer in info.prunable:
        found = plan.rule_for(layer.path)
        if found is None or found.sparsity == 0 or layer.path in ends:
            continue
        misfit = (
            found.pattern.misfit(layer)
            or found.criterion.misfit(layer, found.pattern)
            or plan.schedule.misfit(layer, found.pattern)
            or (
                found.pattern.fixed_sparsity is None
                and plan.allocation.misfit(found.criterion, found.pattern)
            )
        )
        if not misfit and isinstance(found.pattern, NM) and found.pattern.permute:
            channels = channels or trace(model)
            misfit = misfit_of_order(channels, layer, found.pattern)
        if not misfit:
            rules[layer.path] = found
        elif found.skip_misfits:
            skipped.append(f"{layer.path} {misfit}")
        else:
            raise BadInput(f"{layer.path} {misfit}")
    if not rules and skipped:
        raise BadInput(f"the plan fits no layer: {skipped[0]}")
    if not rules and not plan.take_zeros:
        if all_kept := [r.pattern for r in plan.rules if r.pattern.fixed_sparsity == 0]:
            word = all_kept[0].to_plan()
            raise BadInput(f"the plan prunes no layer: {word} keeps all; N must be below M")
        dense = " other than the first and the last, which ends: dense leaves" if ends else ""
        raise BadInput(f"the plan prunes no layer{dense}; give it a rule with a sparsity above 0")
    notes = (*_notes(skipped), *_undecided(plan, rules))
    return Assignment(rules, notes, groups(channels, rules) if channels else {})


def _notes(skipped: list[str]) -> tuple[str, ...]:
    if not skipped:
        return ()
    count = len(skipped)
    stay = "1 layer stays" if count == 1 else f"{count} layers stay"
    more = "" if count == 1 else ", for one"
    return (f"{stay} dense because the plan does not fit{more}: {skipped[0]}",)


def _undecided(plan: Plan, rules: dict[str, Rule]) -> tuple[str, ...]:
    """What is to be said where the plan's allocation has no layer to decide on."""
    allocation, patterns = plan.allocation, {rule.pattern for rule in rules.values()}
    free = any(pattern.fixed_sparsity is None and not pattern.whole for pattern in patterns)
    if not rules or free or isinstance(allocation, Uniform):
        return ()
    names = ", ".join(dict.fromkeys(pattern_word(rule) for rule in rules.values()))
    return (
        f"allocation {allocation.kind} has nothing to decide: how much goes by {names} is settled "
        "by the rules",
    )


def _check_matches(rule: Rule, info: ModelInfo) -> None:
    """Raise BadInput where the rule matches no prunable layer."""
    if any(rule.matches(layer.path) for layer in info.prunable):
        return
    for layer in info.layers:
        if rule.layers == layer.path:
            raise BadInput(f"{layer.path} cannot be pruned: {layer.reason}")
    hint = nearest(rule.layers, [layer.path for layer in info.prunable[:200]])
    hint = hint if "mean" in hint else f"; a layer is {info.prunable[0].path}"
    raise BadInput(f"no prunable layer matches '{rule.layers}'{hint}")


def check_finite(model: Model, paths: Iterable[str]) -> None:
    """Raise BadInput for the first layer whose weights hold NaN or infinity."""
    for path in paths:
        weight = model.weight(path)
        # Their least and largest are finite where all are, and cost no memory to find.
        if not weight.numel() or bool(torch.isfinite(torch.stack(weight.aminmax())).all()):
            continue
        bad = weight.numel() - int(torch.count_nonzero(torch.isfinite(weight)))
        if bad:
            raise BadInput(
                f"{path} has {bad} weights that are NaN or infinite; repair the model or leave "
                "this layer out of the plan"
            )
