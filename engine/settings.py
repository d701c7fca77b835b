"""Settings that describe themselves: one frozen dataclass per pattern, criterion, and so on.

A new kind is one new file with one decorated dataclass. Plan parsing, the form in the studio and
the help text all derive from its fields and docstring. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from functools import cache, cached_property
from typing import Any, ClassVar, Generic, TypeVar, get_origin, get_type_hints

from .errors import BadInput, nearest


def setting(
    default: Any = MISSING,
    *,
    help: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    label: str = "",
) -> Any:
    """Declare a field with its help text and its bounds (both inclusive).

    `label` is what a form calls it, where its name alone would not say enough.
    """
    meta = {"help": help, "low": low, "high": high, "choices": choices, "label": label}
    return dataclasses.field(default=default, metadata=meta)


@dataclass(frozen=True)
class Field:
    """What a form needs to know of one setting."""

    name: str
    type: type
    default: Any
    help: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    label: str = ""

    @property
    def words(self) -> str:
        """What a form calls it: its label, or its name in words."""
        words = self.label or self.name.replace("_", " ")
        return words.upper() if len(words) <= 2 else words[0].upper() + words[1:]

    @property
    def several(self) -> bool:
        """Whether the value is a tuple of numbers, ``tuple[float, ...]``."""
        return get_origin(self.type) is tuple


@dataclass(frozen=True)
class Setting:
    """Base of everything a plan names by kind.

    `kind` is the name in a plan file. `short` is the template of the one-word form, such as
    ``"nm:{n}:{m}"``; without one the kind alone is the short form. `label` is what a person reads,
    `rank` the place in lists, lower first.
    """

    kind: ClassVar[str] = ""
    short: ClassVar[str] = ""
    label: ClassVar[str] = ""
    rank: ClassVar[int] = 100

    def __post_init__(self) -> None:
        for field in self.fields():
            value = coerce(getattr(self, field.name), field, self.kind)
            object.__setattr__(self, field.name, value)

    @classmethod
    def fields(cls) -> tuple[Field, ...]:
        """The settings of this kind in the order in which a form shows them."""
        return fields_of(cls)  # type: ignore[arg-type]  # a dataclass type is hashable

    @classmethod
    def summary(cls) -> str:
        """The first paragraph of the docstring, on one line."""
        return " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())

    def to_plan(self) -> str | dict[str, Any]:
        """The shortest form that a plan file can hold and that parses back to an equal setting."""
        template = self.short or self.kind
        named = {
            f.name: list(getattr(self, f.name)) if f.several else getattr(self, f.name)
            for f in self.fields()
            if f"{{{f.name}}}" not in template and getattr(self, f.name) != f.default
        }
        word = template.format_map({f.name: getattr(self, f.name) for f in self.fields()})
        return {"kind": word, **named} if named else word


@cache
def fields_of(cls: type) -> tuple[Field, ...]:
    """What a form needs to know of each field of a dataclass made with `setting`."""
    hints = get_type_hints(cls)
    return tuple(
        Field(f.name, hints[f.name], f.default, **_meta(f)) for f in dataclasses.fields(cls)
    )


def _meta(field: dataclasses.Field[Any]) -> dict[str, Any]:
    empty = {"help": "", "low": None, "high": None, "choices": (), "label": ""}
    return {**empty, **field.metadata}


def coerce(value: Any, field: Field, owner: str) -> Any:
    """Return `value` as the field's type, or raise BadInput that names the field and its bounds.

    Several numbers are a list, or words with commas between them.
    """
    if field.several:
        return _numbers(value, field, owner)
    kinds = getattr(field.type, "__args__", (field.type,))
    if value is None and types.NoneType in kinds:
        return None
    (kind,) = [k for k in kinds if k is not types.NoneType]
    where = f"{owner}: {field.name}" if owner else field.name
    try:
        if kind is bool:
            if not isinstance(value, bool):
                raise ValueError
        elif kind in (int, float):
            if isinstance(value, bool) or (kind is int and float(value) != int(float(value))):
                raise ValueError
            value = kind(float(value))
        elif not isinstance(value, str):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
        raise BadInput(f"{where} must be {names[kind]}, not {value!r}") from None
    if field.choices and value not in field.choices:
        raise BadInput(f"{where} cannot be {value!r}{nearest(str(value), field.choices)}")
    if field.low is not None and not value >= field.low:
        raise BadInput(f"{where} must be at least {field.low:g}, not {value:g}")
    if field.high is not None and not value <= field.high:
        raise BadInput(f"{where} must be at most {field.high:g}, not {value:g}")
    return value


def _numbers(value: Any, field: Field, owner: str) -> tuple[float, ...]:
    """Each number of a list as `coerce` makes it."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        where = f"{owner}: {field.name}" if owner else field.name
        raise BadInput(f"{where} must be numbers such as 0.5, 0.75, not {value!r}")
    one = dataclasses.replace(field, name=f"each of {field.name}", type=float)
    words = (item.strip() if isinstance(item, str) else item for item in items)
    return tuple(coerce(word, one, owner) for word in words)


S = TypeVar("S", bound=Setting)


class Family(Generic[S]):
    """All kinds of one thing ("pattern", "criterion", …), found in one package's modules."""

    def __init__(self, name: str, package: str) -> None:
        self.name = name
        self._package = package
        self._kinds: dict[str, type[S]] = {}

    def register(self, cls: type[S]) -> type[S]:
        """Class decorator: make `cls` known under its `kind`."""
        if not cls.kind or cls.kind in self._kinds:
            raise TypeError(f"{cls.__name__} needs a {self.name} kind of its own: {cls.kind!r}")
        self._kinds[cls.kind] = cls
        return cls

    def kinds(self) -> Mapping[str, type[S]]:
        """Every kind by name, in the order of their ranks."""
        return self._found

    @cached_property
    def _found(self) -> Mapping[str, type[S]]:
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        return dict(sorted(self._kinds.items(), key=lambda item: (item[1].rank, item[0])))

    def parse(self, value: Any) -> S:
        """Build a setting from its plan form: a word, or a mapping with ``kind``.

        Raises BadInput that names the unknown kind or key and the nearest valid one.
        """
        if isinstance(value, str):
            cls, given = self._from_word(value)
        elif isinstance(value, Mapping) and isinstance(value.get("kind"), str):
            cls, given = self._from_word(value["kind"])
            given = given | {k: v for k, v in value.items() if k != "kind"}
        else:
            raise BadInput(f"{self.name} must be a word or a mapping with 'kind', not {value!r}")
        names = [f.name for f in cls.fields()]
        for key in given:
            if key not in names:
                hint = nearest(str(key), names) if names else "; it has no settings"
                raise BadInput(f"{self.name} {cls.kind} has no setting '{key}'{hint}")
        missing = [f.name for f in cls.fields() if f.default is MISSING and f.name not in given]
        if missing:
            raise BadInput(f"{self.name} {cls.kind} needs {', '.join(missing)}: {cls.short}")
        return cls(**given)

    def _from_word(self, word: str) -> tuple[type[S], dict[str, Any]]:
        kinds = self.kinds()
        head = word.split(":")[0]
        if head not in kinds:
            raise BadInput(f"unknown {self.name} '{word}'{nearest(head, kinds)}")
        cls = kinds[head]
        if word == head:
            return cls, {}
        match = re.fullmatch(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^:]+?)", re.escape(cls.short)), word)
        if cls.short in ("", head) or match is None:
            form = re.sub(r"{(\w+)}", lambda part: part[1].upper(), cls.short or head)
            raise BadInput(f"{self.name} '{word}' is written {form}")
        return cls, match.groupdict()

    def __iter__(self) -> Iterator[type[S]]:
        return iter(self.kinds().values())
