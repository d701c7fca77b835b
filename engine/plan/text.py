"""Plan files as text: YAML (and so JSON) that remembers the line of every key."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BadInput

Place = tuple[Any, ...]


class PlanError(BadInput):
    """A fault at a known place of a plan, such as ``("rules", 0, "pattern")``."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message


@dataclass
class Located:
    """A parsed document and the line (from 1) at which each place of it stands."""

    value: Any
    lines: dict[Place, int] = field(default_factory=dict)

    def line(self, place: Place) -> int:
        """The line of `place`, or of the nearest place around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def read_text(path: Path) -> Located:
    """Parse a YAML or JSON file; raises BadInput for what is missing or no YAML."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such plan file") from None
    except IsADirectoryError:
        raise BadInput(f"{path} is a folder; name a plan file, such as its plan.yaml") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is no text; a plan is a file of YAML or JSON") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read as a plan: {error.strerror}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        located = Located(yaml.safe_load(text))
        if node is not None:
            _locate(node, (), located.lines, path)
    except RecursionError:
        raise BadInput(f"{path}:1: the plan is nested too deeply or contains itself") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or "is not YAML"
        raise BadInput(f"{path}:{line}: the plan is not valid YAML: {problem}") from None
    return located


def _locate(node: Any, place: Place, lines: dict[Place, int], path: Path) -> None:
    import yaml

    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            where = (*place, key.value)
            if where in lines:
                line = key.start_mark.line + 1
                raise BadInput(f"{path}:{line}: the key '{key.value}' stands there twice")
            lines[where] = key.start_mark.line + 1
            _locate(value, where, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _locate(value, (*place, index), lines, path)


def write_text(path: Path, data: dict[str, Any]) -> None:
    """Write plain values as YAML in the given order."""
    import yaml

    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    path.write_text(text, encoding="utf-8")
