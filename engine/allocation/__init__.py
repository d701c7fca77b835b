"""Allocations: how a model-wide budget becomes a sparsity per layer. One file each."""

from .base import ALLOCATIONS, Allocation, Share

__all__ = ["ALLOCATIONS", "Allocation", "Share"]
