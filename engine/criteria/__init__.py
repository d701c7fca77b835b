"""Criteria: a score for every entry of W. One file each; `CRITERIA` finds them."""

from .base import CRITERIA, NOTHING, Criterion, Statistics

__all__ = ["CRITERIA", "NOTHING", "Criterion", "Statistics"]
