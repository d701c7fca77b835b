"""The canvas: the selected layer's matrix, its mask, its distribution and its latency."""

from .canvas import Canvas

__all__ = ["Canvas"]
