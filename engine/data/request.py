"""What is asked of a loader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BadInput
from .spec import InputSpec

SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev", "test")}
"""What a split's file or folder may be called, best first."""


@dataclass(frozen=True)
class Request:
    """`name` is the address as it was written; `options` are those after its question mark."""

    name: str
    path: Path
    options: Mapping[str, str] = field(default_factory=dict)
    spec: InputSpec = field(default_factory=InputSpec)
    seed: int = 0

    def number(self, option: str, default: int) -> int:
        """A whole number from 0; raises BadInput for anything else."""
        text = self.options.get(option, str(default))
        if not text.isdecimal():
            raise BadInput(f"{self.name}: {option} takes a whole number, not '{text}'")
        return int(text)

    def existing(self) -> Path:
        """The path; raises BadInput if nothing is there."""
        if not self.path.exists():
            raise BadInput(f"{self.name}: there is no {self.path}")
        return self.path
