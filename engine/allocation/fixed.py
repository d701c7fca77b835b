"""Fixed allocation: what each rule says, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import ALLOCATIONS
from .uniform import Uniform


@ALLOCATIONS.register
@dataclass(frozen=True)
class Fixed(Uniform):
    """Every layer gets the sparsity of its own rule; another word for uniform."""

    kind: ClassVar[str] = "fixed"
    label: ClassVar[str] = "Fixed per layer"
    rank: ClassVar[int] = 11
