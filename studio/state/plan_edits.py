"""Edits of a plan as pure functions, and the undo command that swaps two plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from PySide6.QtGui import QUndoCommand

from ...engine.criteria import CRITERIA
from ...engine.patterns import PATTERNS
from ...engine.plan import Plan, Rule

_LIVE_ID = 1
_SCRATCH = "sparse-training"


class RuleIndex:
    """`Plan.rule_for` for many layers: rules of single layers are looked up, not searched."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._single: dict[str, int] = {}
        self._globs: list[int] = []
        for number, rule in enumerate(plan.rules):
            if any(c in rule.layers for c in "*?["):
                self._globs.append(number)
            # A path may hold a bracket and still be meant literally.
            self._single.setdefault(rule.layers, number)

    def rule_for(self, path: str) -> Rule | None:
        """The rule that applies to the layer at `path`, or None: it stays dense."""
        rules = self.plan.rules
        best = self._single.get(path)
        for number in self._globs:
            if best is not None and number > best:
                break
            if rules[number].matches(path):
                best = number
                break
        return rules[best] if best is not None else None


def default_rule(path: str, sparsity: float = 0.5) -> Rule:
    """The rule that a dense layer gets when only its sparsity is set."""
    return Rule(path, PATTERNS.parse("element"), CRITERIA.parse("magnitude"), sparsity)


def with_sparsity(plan: Plan, paths: Iterable[str], sparsity: float) -> Plan:
    """`plan` with the layers at `paths` at `sparsity`, each with its own pattern and criterion.

    Layers whose pattern fixes the sparsity (N:M) keep it; dense layers get the default rule.
    """
    groups: dict[Rule, list[str]] = {}
    rules, fresh = RuleIndex(plan), default_rule("*")
    for path in paths:
        rule = rules.rule_for(path) or fresh
        if rule.pattern.fixed_sparsity is None:
            key = replace(rule, layers="*", sparsity=sparsity)
            groups.setdefault(key, []).append(path)
    for rule, members in groups.items():
        plan = plan.with_rule(members, rule)
    return plan


def short(rule: Rule | None) -> str:
    """A rule in a few words for a table cell: ``group 60 %``, ``2:4``, empty for dense."""
    if rule is None or rule.sparsity == 0:
        return ""
    word = rule.pattern.to_plan()
    name = word if isinstance(word, str) else str(word["kind"])
    if rule.pattern.fixed_sparsity is not None:
        return name.removeprefix("nm:")
    return f"{name.replace(':', ' ')} {rule.sparsity * 100:.3g} %"


def context(plan: Plan) -> dict[str, Any]:
    """What the engine has to know of a plan, beside a layer's rule, to preview its mask."""
    return {"seed": plan.seed, "data": plan.training.data if plan.training else None}


def describe(paths: tuple[str, ...] | list[str], rule: Rule | None) -> str:
    """What an edit does, as the undo menu says it: "set 3 layers to group 60 %"."""
    what = paths[0] if len(paths) == 1 else f"{len(paths)} layers"
    return f"set {what} to {short(rule) or 'dense'}"


class PlanCommand(QUndoCommand):
    """Swaps `before` for `after`; drags of one slider (same `gesture`) merge into one step."""

    def __init__(
        self,
        apply: Callable[[Plan], None],
        before: Plan,
        after: Plan,
        text: str,
        gesture: int | None = None,
    ) -> None:
        super().__init__(text)
        self._apply = apply
        self._before = before
        self._after = after
        self._gesture = gesture

    def redo(self) -> None:
        self._apply(self._after)

    def undo(self) -> None:
        self._apply(self._before)

    def id(self) -> int:
        return -1 if self._gesture is None else _LIVE_ID

    def mergeWith(self, other: QUndoCommand) -> bool:
        if not isinstance(other, PlanCommand) or other._gesture != self._gesture:
            return False
        self._after = other._after
        self.setText(other.text())
        self.setObsolete(self._after == self._before)
        return True


def from_scratch(plan: Plan) -> bool:
    """Whether the plan trains a network that has learned nothing before, sparse all along."""
    return plan.schedule.kind == _SCRATCH


def verb(plan: Plan) -> str:
    """What running the plan does to the model, as its button says it."""
    return "Train" if from_scratch(plan) else "Prune"


def title(plan: Plan) -> str:
    """A run's name: the schedule and what it prunes, as "AGP · group 60 %"."""
    words = {short(rule) for rule in plan.rules} - {""}
    shares = {rule.sparsity for rule in plan.rules if rule.sparsity > 0}
    if len(words) == 1:
        what = words.pop()
    else:
        what = f"{shares.pop() * 100:.3g} %" if len(shares) == 1 else f"{len(words)} rules"
    name = "Sparse training" if from_scratch(plan) else plan.schedule.kind
    return what if name == "oneshot" else f"{name.upper() if len(name) < 4 else name} · {what}"
