"""Plans that come with Secateur, one file each in ``resources/plans``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ... import resources
from ..errors import BadInput, nearest
from .plan import Plan

_PREFIX = "preset:"


@dataclass(frozen=True)
class Preset:
    """A plan file whose globs match on any model; its first line says whom it is for."""

    path: Path

    @property
    def name(self) -> str:
        """What stands after ``preset:``."""
        return self.path.stem

    @property
    def summary(self) -> str:
        """The file's first line, a comment, without its mark."""
        with self.path.open(encoding="utf-8") as file:
            return file.readline().removeprefix("#").strip()

    def load(self) -> Plan:
        """The plan."""
        return Plan.load(self.path)


def presets() -> tuple[Preset, ...]:
    """All presets, by name."""
    folder = Path(resources.__file__).parent / "plans"
    return tuple(Preset(path) for path in sorted(folder.glob("*.yaml")))


def as_plan(plan: Plan | str | Path) -> Plan:
    """A plan as it is, or that of an address; raises BadInput for anything else."""
    if isinstance(plan, Plan):
        return plan
    if not isinstance(plan, str | Path):
        raise BadInput(
            f"a plan is a secateur.Plan, a file or preset:NAME, not a {type(plan).__name__}; "
            "Plan.from_json makes one of a dict"
        )
    return load_plan(str(plan))


def load_plan(address: str) -> Plan:
    """The plan of a file, or of ``preset:NAME``; raises BadInput that lists the names there are."""
    if not address.startswith(_PREFIX):
        return Plan.load(address)
    found = {preset.name: preset for preset in presets()}
    name = address.removeprefix(_PREFIX)
    if name in found:
        return found[name].load()
    names = ", ".join(found)
    if name in ("", "?"):
        raise BadInput(f"name one as preset:NAME; the presets are {names}")
    hint = nearest(name, found)
    listed = f"{hint} The" if "mean" in hint else "; the"
    raise BadInput(f"there is no preset '{name}'{listed} presets are {names}")
