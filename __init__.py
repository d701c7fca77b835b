"""Secateur: a desktop studio for pruning neural networks."""

__version__ = "0.1.0"
