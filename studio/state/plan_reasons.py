"""Why a pattern, criterion or schedule can't be chosen now, in words that say what to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...engine.allocation import Allocation
from ...engine.criteria import CRITERIA, Criterion
from ...engine.errors import BadInput
from ...engine.info import LayerInfo, ModelInfo
from ...engine.new_network import untrained
from ...engine.patterns import PATTERNS, Pattern
from ...engine.plan import Plan, Rule, Training
from ...engine.schedules import SCHEDULES, Schedule
from .starting import starting


def is_dense(rule: Rule | None) -> bool:
    """Whether a rule leaves its layer as it is. N:M with all entries kept is still a choice."""
    return rule is None or (rule.sparsity == 0 and rule.pattern.fixed_sparsity is None)


def pattern_reasons(layers: Sequence[LayerInfo], rule: Rule | None) -> dict[str, str]:
    """Why a pattern can't be chosen for the layers, by kind; those that can be are left out.

    `rule` is the shown one, None for a dense layer: its pattern is asked with its own settings, and
    its criterion whether it can score the others.
    """
    found: dict[str, str] = {}
    for cls in PATTERNS:
        own = rule is not None and rule.pattern.kind == cls.kind
        pattern = rule.pattern if rule is not None and own else starting(cls)
        assert isinstance(pattern, Pattern)
        for layer in layers:
            misfit = pattern.misfit(layer)
            if not misfit and rule is not None:
                misfit = _clash(rule.criterion, layer, pattern)
            if misfit:
                found[cls.kind] = f"{layer.path} {misfit}"
                break
    return found


def _clash(criterion: Criterion, layer: LayerInfo, pattern: Pattern) -> str | None:
    """Why the criterion can't score the layer for this pattern, where it could for another."""
    misfit = criterion.misfit(layer, pattern)
    if not misfit or criterion.misfit(layer):
        return None
    return f"{misfit}. To choose it, change the criterion first"


def criterion_reasons(
    layers: Sequence[LayerInfo], pattern: Pattern, plan: Plan, info: ModelInfo
) -> dict[str, str]:
    """Why a criterion can't score one of the layers for `pattern`, by kind."""
    named = (plan.training.data if plan.training else None) or info.data
    found: dict[str, str] = {}
    for cls in CRITERIA:
        if cls.needs and not info.runnable:
            found[cls.kind] = f"{cls.label} passes data through the model; this is weights only"
        elif cls.needs and named is None:
            found[cls.kind] = (
                f"{cls.label} takes calibration data, and this model brings none: switch on "
                "retraining below and name its data"
            )
        else:
            criterion = starting(cls)
            assert isinstance(criterion, Criterion)
            for layer in layers:
                misfit = criterion.misfit(layer, pattern)
                if misfit:
                    found[cls.kind] = f"{layer.path} {misfit}"
                    break
    return found


def schedule_reasons(
    ruled: Sequence[tuple[LayerInfo, Rule]], plan: Plan, info: ModelInfo
) -> dict[str, str]:
    """Why a schedule can't prune the layers with a rule, by kind."""
    found: dict[str, str] = {}
    for cls in SCHEDULES:
        schedule = plan.schedule if plan.schedule.kind == cls.kind else starting(cls)
        assert isinstance(schedule, Schedule)
        if cls.trains and not info.runnable:
            found[cls.kind] = f"{cls.label} trains the model; this is weights only"
        elif misfit := refusal(ruled, replace(plan, schedule=schedule), of_schedule=True):
            found[cls.kind] = misfit
    return found


def refusal(
    ruled: Sequence[tuple[LayerInfo, Rule]], plan: Plan, *, of_schedule: bool = False
) -> str:
    """Why a run would refuse the plan for what it asks of a layer, in the engine's words; or empty.

    `of_schedule`: only what the schedule refuses.
    """
    skipped, some = "", False
    for layer, rule in ruled:
        misfit = None if of_schedule else rule_misfit(layer, rule)
        misfit = misfit or plan.schedule.misfit(layer, rule.pattern)
        if not misfit:
            some = True
        elif not rule.skip_misfits:
            return f"{layer.path} {misfit}"
        elif not skipped:
            skipped = f"the plan fits no layer: {layer.path} {misfit}"
    return "" if some else skipped


def needs_data(plan: Plan, info: ModelInfo) -> str:
    """Why the plan cannot train for want of data; empty if it can, or does not train."""
    training = plan.training
    if not plan.schedule.trains and (training is None or training.epochs == 0):
        return ""
    if not info.runnable:
        return "These are weights only, and training runs the model: open it with its architecture"
    if info.data is None and (training is None or training.data is None):
        return "This model brings no data: name some to train on under Retrain"
    return ""


def no_teacher(plan: Plan, info: ModelInfo) -> str:
    """Why the plan cannot distil; empty if it can, or does not."""
    training = plan.training
    distils = training is not None and training.distil and (plan.schedule.trains or training.epochs)
    if not distils or not untrained(info.model):
        return ""
    return "This model has learned nothing that it could teach: switch off Distil under Retrain"


def wrong_steps(plan: Plan, per_epoch: int | None) -> str:
    """Why the schedule cannot be followed in the steps of the training; empty if it can.

    `per_epoch` is how many steps a pass over the data takes, None while that is not known.
    """
    epochs = (plan.training or Training()).epochs
    if epochs and per_epoch is None:
        return ""
    try:
        plan.schedule.check(epochs * (per_epoch or 0))
    except BadInput as error:
        return str(error)
    return ""


def fits(layers: Sequence[LayerInfo], rule: Rule) -> bool:
    """Whether the rule's pattern and criterion suit all the layers."""
    return not any(rule_misfit(layer, rule) for layer in layers)


def rule_misfit(layer: LayerInfo, rule: Rule) -> str | None:
    """Why the rule can't be used on the layer, in words after its path; None if it can."""
    return rule.pattern.misfit(layer) or rule.criterion.misfit(layer, rule.pattern)


def allocation_note(allocation: Allocation) -> str:
    """What a layer's own sparsity means under the plan's allocation; empty: just that."""
    name = allocation.label or allocation.kind
    if any(field.name == "target" for field in allocation.fields()):
        return f"{name} decides how much goes; this is only for the preview."
    if allocation.kind in ("uniform", "fixed"):
        return ""
    return f"{name} takes more here or less, for the same total."
