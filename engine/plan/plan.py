"""The plan: everything that a run needs and nothing of its state.

Frozen, torch-free, versioned. Undo in the studio is a swap of two plans.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..allocation import ALLOCATIONS, Allocation
from ..criteria import CRITERIA
from ..errors import BadInput
from ..patterns import PATTERNS
from ..schedules import SCHEDULES, Schedule
from ..settings import Field, fields_of, setting
from .parse import parse
from .parts import Rule, Training, training_fields
from .text import PlanError, read_text, write_text

VERSION = 1


@dataclass(frozen=True)
class Plan:
    """A whole pruning plan; see the guide's page on plan files.

    The first rule whose glob matches a layer wins; without a match the layer stays dense.
    """

    model: str | None = None
    rules: tuple[Rule, ...] = ()
    allocation: Allocation = field(default_factory=lambda: ALLOCATIONS.parse("uniform"))
    schedule: Schedule = field(default_factory=lambda: SCHEDULES.parse("oneshot"))
    training: Training | None = None
    seed: int = setting(
        0, low=0, high=2**63 - 1, help="Start of all random choices: the same seed, the same masks."
    )
    ends: str = setting(
        "prune",
        choices=("prune", "dense"),
        help="Whether the model's first and last prunable layers follow the rules or stay dense.",
    )
    take_zeros: bool = setting(
        False,
        help="Weights that are zero when the model is opened count as pruned and stay zero.",
    )

    def rule_for(self, path: str) -> Rule | None:
        """The rule that applies to the layer at `path`, or None: it stays dense."""
        return next((rule for rule in self.rules if rule.matches(path)), None)

    def with_rule(self, paths: Iterable[str], rule: Rule | None) -> Plan:
        """A plan in which exactly the layers at `paths` follow `rule` (None: stay dense).

        Rules of single layers stand first, so that they win over globs.
        """
        paths = list(paths)
        chosen = set(paths)
        others = [r for r in self.rules if r.layers not in chosen]
        own = [replace(rule, layers=path) for path in paths] if rule else []
        if rule is None:
            dense = Rule("", PATTERNS.parse("element"), CRITERIA.parse("magnitude"), 0.0)
            own = [
                replace(dense, layers=p) for p in paths if any(r.matches(p) for r in others)
            ]  # fmt: skip
        return replace(self, rules=(*own, *others))

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads back equal."""
        data: dict[str, Any] = {"version": VERSION}
        if self.model is not None:
            data["model"] = self.model
        for each in plan_fields():
            value = getattr(self, each.name)
            if value != each.default or each.name == "seed":
                data[each.name] = value
        data["rules"] = [rule.to_json() for rule in self.rules]
        data["allocation"] = self.allocation.to_plan()
        data["schedule"] = self.schedule.to_plan()
        if self.training is not None:
            data["training"] = {
                f.name: getattr(self.training, f.name)
                for f in training_fields()
                if getattr(self.training, f.name) != f.default
            }
        return data

    @classmethod
    def from_json(cls, data: Any) -> Plan:
        """Read a plan from plain values; raises BadInput that names the key."""
        try:
            return cls(**parse(data, VERSION, plan_fields()))
        except PlanError as error:
            raise BadInput(error.message) from None

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan file, YAML or JSON; raises BadInput that names file, line and key."""
        located = read_text(Path(path))
        try:
            return cls(**parse(located.value, VERSION, plan_fields()))
        except PlanError as error:
            raise BadInput(f"{path}:{located.line(error.place)}: {error.message}") from None

    def save(self, path: str | Path) -> None:
        """Write the plan as YAML, or as JSON where the name ends in ``.json``."""
        path = Path(path)
        if path.suffix == ".json":
            path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
        else:
            write_text(path, self.to_json())


def plan_fields() -> tuple[Field, ...]:
    """The settings of a plan that are one plain value each, as a form shows them."""
    return tuple(each for each in fields_of(Plan) if each.help)


__all__ = ["VERSION", "Plan", "Rule", "Training", "plan_fields", "training_fields"]
