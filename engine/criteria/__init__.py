"""Criteria: a score for every entry of W. One file each; `CRITERIA` finds them."""

from .base import CRITERIA, Criterion

__all__ = ["CRITERIA", "Criterion"]
