"""Pruning patterns: layouts of zeros on the GEMM view. One file each; `PATTERNS` finds them."""

from .base import PATTERNS, Pattern

__all__ = ["PATTERNS", "Pattern"]
