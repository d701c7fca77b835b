"""Unstructured pruning: any entry of the matrix (S0, S1, S3; "irregular" in S4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import PATTERNS, Pattern


@PATTERNS.register
@dataclass(frozen=True)
class Element(Pattern):
    """Any single weight may go.

    Keeps accuracy best at a given sparsity. Makes the file smaller; rarely makes the model faster.
    """

    kind: ClassVar[str] = "element"
    label: ClassVar[str] = "element"
    rank: ClassVar[int] = 10
