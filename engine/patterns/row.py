"""Row pruning (S0, S4): what `filter` is on a linear layer, a neuron."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import PATTERNS
from .filter import Filter


@PATTERNS.register
@dataclass(frozen=True)
class Row(Filter):
    """One output goes: a row of the matrix, a neuron. As filter on a convolution."""

    kind: ClassVar[str] = "row"
    label: ClassVar[str] = "row"
    rank: ClassVar[int] = 55
    pictured_on_kernels: ClassVar[bool] = False
