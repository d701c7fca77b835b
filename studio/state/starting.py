"""Settings that a form starts from."""

from __future__ import annotations

import dataclasses
import types
from typing import Any

from ...engine.settings import Field, Setting


def starting(cls: type[Setting]) -> Setting:
    """A setting of a kind that a form can start from: defaults, and the least allowed otherwise."""
    given: dict[str, Any] = {}
    for field in cls.fields():
        if field.default is dataclasses.MISSING:
            kind = base_type(field)
            given[field.name] = field.choices[0] if field.choices else kind(field.low or kind())
    return cls(**given)


def base_type(field: Field) -> type:
    """The field's type without ``| None``; tuple where it holds several numbers."""
    if field.several:
        return tuple
    kinds = getattr(field.type, "__args__", (field.type,))
    return next(kind for kind in kinds if kind is not types.NoneType)
