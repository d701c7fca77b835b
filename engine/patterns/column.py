"""Column pruning (S4): what `group` is on a linear layer, under the name that S4 gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import PATTERNS
from .group import Group


@PATTERNS.register
@dataclass(frozen=True)
class Column(Group):
    """One input goes for all outputs: a column of the matrix. As group on a convolution."""

    kind: ClassVar[str] = "column"
    label: ClassVar[str] = "column"
    rank: ClassVar[int] = 45
