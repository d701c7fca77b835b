"""From a plan's plain values to its parts; every fault names its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, replace
from typing import Any

from ..allocation import ALLOCATIONS
from ..criteria import CRITERIA
from ..errors import BadInput, nearest
from ..patterns import PATTERNS
from ..schedules import SCHEDULES
from ..settings import Field, coerce, fields_of
from .parts import Rule, Training, training_fields
from .text import PlanError

_RULE_KEYS = ("layers", "pattern", "criterion", "sparsity", "skip_misfits")


def parse(data: Any, version: int, settings: Iterable[Field]) -> dict[str, Any]:
    """The arguments of `Plan` from plain values; raises PlanError at the place of a fault.

    `settings` are those keys of a plan that hold one plain value each.
    """
    if not isinstance(data, Mapping):
        raise PlanError((), "a plan is a mapping with 'rules'")
    plain = {each.name: each for each in settings}
    known = ("version", "model", *plain, "rules", "allocation", "schedule", "training")
    _check_keys(data, known, (), "plan")
    written = data.get("version", version)
    if written != version:
        raise PlanError(("version",), f"plan version {written!r} is not known; this is {version}")
    rules = data.get("rules", [])
    if not isinstance(rules, list):
        raise PlanError(("rules",), "rules must be a list")
    model = data.get("model")
    if model is not None and not isinstance(model, str):
        raise PlanError(("model",), f"model must be an address, not {model!r}")
    found: dict[str, Any] = {"model": model}
    for name, field in plain.items():
        with _at(name):
            found[name] = coerce(data.get(name, field.default), field, "plan")
    with _at("allocation"):
        found["allocation"] = ALLOCATIONS.parse(data.get("allocation", "uniform"))
    with _at("schedule"):
        found["schedule"] = SCHEDULES.parse(data.get("schedule", "oneshot"))
    found["rules"] = tuple(_parse_rule(rule, index) for index, rule in enumerate(rules))
    found["training"] = _parse_training(data.get("training"))
    return found


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
        rule = Rule(data["layers"], pattern, criterion, value)
    with _at(*place, "skip_misfits"):
        field = next(f for f in fields_of(Rule) if f.name == "skip_misfits")
        return replace(rule, skip_misfits=coerce(data.get(field.name, False), field, "rule"))


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
