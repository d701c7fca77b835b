"""Which rule each layer follows when a plan runs on a model, and why one stays dense."""

from __future__ import annotations

from functools import cached_property

from ...engine.info import LayerInfo, ModelInfo
from ...engine.plan import Plan, Rule
from .plan_edits import RuleIndex
from .plan_reasons import refusal, rule_misfit


class Assigned:
    """A plan on a model; quick for many layers."""

    def __init__(self, plan: Plan, info: ModelInfo | None) -> None:
        self.plan, self.info = plan, info
        self._rules = RuleIndex(plan)
        self._layers = {layer.path: layer for layer in info.layers} if info is not None else {}
        prunable = info.prunable if info is not None and plan.ends == "dense" else ()
        self.ends = frozenset(layer.path for layer in (*prunable[:1], *prunable[-1:]))

    def rule_for(self, path: str) -> Rule | None:
        """The rule that the layer at `path` follows, None where it stays dense."""
        rule = self._rules.rule_for(path)
        return None if rule is None or path in self.ends or self._misfit(path, rule) else rule

    @cached_property
    def ruled(self) -> tuple[tuple[LayerInfo, Rule], ...]:
        """Every prunable layer with a rule that prunes something, whether or not it fits."""
        found = []
        for layer in self.info.prunable if self.info is not None else ():
            rule = None if layer.path in self.ends else self._rules.rule_for(layer.path)
            if rule is not None and rule.sparsity > 0:
                found.append((layer, rule))
        return tuple(found)

    @cached_property
    def refusal(self) -> str:
        """Why a run would refuse the plan for what it asks of a layer; empty if it would not."""
        return refusal(self.ruled, self.plan)

    def why_dense(self, path: str) -> str:
        """Why the layer stays dense though a rule may match it; empty if nothing keeps it so."""
        if path in self.ends:
            return (
                f"{path} is the first or the last layer, and these stay dense: switch that off "
                "below, under Whole model, to prune it."
            )
        rule = self._rules.rule_for(path)
        misfit = self._misfit(path, rule) if rule is not None else None
        return f"The plan's rule does not fit: {path} {misfit}." if misfit else ""

    def _misfit(self, path: str, rule: Rule) -> str | None:
        layer = self._layers.get(path)
        if not rule.skip_misfits or layer is None or layer.gemm is None:
            return None
        return rule_misfit(layer, rule) or self.plan.schedule.misfit(layer, rule.pattern)
