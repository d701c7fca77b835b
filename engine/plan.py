"""The plan: everything that a run needs and nothing of its state.

Frozen, torch-free, versioned. Undo in the studio is a swap of two plans.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .allocation import ALLOCATIONS, Allocation
from .criteria import CRITERIA, Criterion
from .errors import BadInput, nearest
from .patterns import PATTERNS, Pattern
from .plan_text import PlanError, read_text, write_text
from .schedules import SCHEDULES, Schedule
from .settings import Field, coerce, fields_of, setting

VERSION = 1


@dataclass(frozen=True)
class Rule:
    """How the layers that match `layers` are pruned.

    `layers` is a glob over the whole path, in which ``*`` also crosses dots. `sparsity` is the
    share of entries to prune in [0, 1); for N:M it is N and M that say it.
    """

    layers: str
    pattern: Pattern
    criterion: Criterion
    sparsity: float

    def __post_init__(self) -> None:
        fixed = self.pattern.fixed_sparsity
        if not 0 <= self.sparsity < 1:
            raise BadInput(f"sparsity must be at least 0 and below 1, not {self.sparsity:g}")
        if fixed is not None and abs(self.sparsity - fixed) > 5e-3:
            word = self.pattern.to_plan()
            raise BadInput(f"{word} has sparsity {fixed:g}, not {self.sparsity:g}; leave it out")

    def to_json(self) -> dict[str, Any]:
        """The rule as a plan file writes it; N:M needs no sparsity."""
        data: dict[str, Any] = {"layers": self.layers, "pattern": self.pattern.to_plan()}
        data["criterion"] = self.criterion.to_plan()
        if self.pattern.fixed_sparsity is None:
            data["sparsity"] = self.sparsity
        return data

    def matches(self, path: str) -> bool:
        """Whether the rule's glob matches a layer's whole path."""
        return path == self.layers or fnmatchcase(path, self.layers)


@dataclass(frozen=True)
class Training:
    """How a model is retrained under its masks, and on which data."""

    data: str | None = setting(None, help="Address of the data; empty: the model's own.")
    epochs: int = setting(20, low=0, high=100000, help="Passes over the training data.")
    optimizer: str = setting("sgd", choices=("sgd", "adamw"), help="Update rule.")
    lr: float = setting(0.02, low=0.0, high=100.0, help="Learning rate.")
    decay: str = setting(
        "late",
        choices=("late", "cosine", "constant"),
        help="Course of the learning rate: late holds it for three quarters, while masks still "
        "change, and then falls to zero; cosine falls from the start.",
    )
    momentum: float = setting(0.9, low=0.0, high=0.9999, help="Momentum of sgd.")
    weight_decay: float = setting(0.0, low=0.0, high=10.0, help="Weight decay.")
    batch: int = setting(64, low=1, high=1_000_000, help="Samples in one step.")
    distil: bool = setting(False, help="Learn from the dense model's outputs too.")

    def __post_init__(self) -> None:
        for each in training_fields():
            value = coerce(getattr(self, each.name), each, "training")
            object.__setattr__(self, each.name, value)


def training_fields() -> tuple[Field, ...]:
    """The settings of `Training` as a form shows them."""
    return fields_of(Training)


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
    seed: int = 0

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
        data["seed"] = self.seed
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
            return _parse(data)
        except PlanError as error:
            raise BadInput(error.message) from None

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan file, YAML or JSON; raises BadInput that names file, line and key."""
        located = read_text(Path(path))
        try:
            return _parse(located.value)
        except PlanError as error:
            raise BadInput(f"{path}:{located.line(error.place)}: {error.message}") from None

    def save(self, path: str | Path) -> None:
        """Write the plan as YAML, or as JSON where the name ends in ``.json``."""
        path = Path(path)
        if path.suffix == ".json":
            path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
        else:
            write_text(path, self.to_json())


_RULE_KEYS = ("layers", "pattern", "criterion", "sparsity")
_PLAN_KEYS = ("version", "model", "seed", "rules", "allocation", "schedule", "training")


def _parse(data: Any) -> Plan:
    if not isinstance(data, Mapping):
        raise PlanError((), "a plan is a mapping with 'rules'")
    _check_keys(data, _PLAN_KEYS, (), "plan")
    version = data.get("version", VERSION)
    if version != VERSION:
        raise PlanError(("version",), f"plan version {version!r} is not known; this is {VERSION}")
    rules = data.get("rules", [])
    if not isinstance(rules, list):
        raise PlanError(("rules",), "rules must be a list")
    seed = Field("seed", int, 0, "", 0, 2**63 - 1, ())
    model = data.get("model")
    if model is not None and not isinstance(model, str):
        raise PlanError(("model",), f"model must be an address, not {model!r}")
    with _at("allocation"):
        allocation = ALLOCATIONS.parse(data.get("allocation", "uniform"))
    with _at("schedule"):
        schedule = SCHEDULES.parse(data.get("schedule", "oneshot"))
    with _at("seed"):
        number = coerce(data.get("seed", 0), seed, "plan")
    parsed = tuple(_parse_rule(rule, index) for index, rule in enumerate(rules))
    training = _parse_training(data.get("training"))
    return Plan(model, parsed, allocation, schedule, training, number)


def _parse_rule(data: Any, index: int) -> Rule:
    place = ("rules", index)
    if not isinstance(data, Mapping):
        raise PlanError(place, "a rule is a mapping with 'layers' and 'pattern'")
    _check_keys(data, _RULE_KEYS, place, "rule")
    for key in ("layers", "pattern"):
        if key not in data:
            raise PlanError(place, f"the rule has no '{key}'")
    if not isinstance(data["layers"], str) or not data["layers"]:
        raise PlanError((*place, "layers"), f"layers must be a glob, not {data['layers']!r}")
    with _at(*place, "pattern"):
        pattern = PATTERNS.parse(data["pattern"])
    with _at(*place, "criterion"):
        criterion = CRITERIA.parse(data.get("criterion", "magnitude"))
    sparsity = data.get("sparsity", pattern.fixed_sparsity)
    if sparsity is None:
        raise PlanError(place, "the rule has no 'sparsity'")
    with _at(*place, "sparsity"):
        value = coerce(sparsity, Field("sparsity", float, MISSING, "", None, None, ()), "")
        return Rule(data["layers"], pattern, criterion, value)


def _parse_training(data: Any) -> Training | None:
    if data is None:
        return None
    if not isinstance(data, Mapping):
        raise PlanError(("training",), f"training must be a mapping, not {data!r}")
    _check_keys(data, [f.name for f in training_fields()], ("training",), "training")
    for each in training_fields():
        with _at("training", each.name):
            coerce(data.get(each.name, each.default), each, "training")
    return Training(**data)


def _check_keys(data: Mapping[Any, Any], known: Iterable[str], place: Any, what: str) -> None:
    known = list(known)
    for key in data:
        if key not in known:
            raise PlanError((*place, key), f"{what} has no key '{key}'{nearest(str(key), known)}")


@contextmanager
def _at(*place: str | int) -> Iterator[None]:
    """Give a BadInput raised inside the place in the plan where it belongs."""
    try:
        yield
    except PlanError:
        raise
    except BadInput as error:
        raise PlanError(place, str(error)) from None
