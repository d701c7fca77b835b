"""Where the arithmetic runs."""

from __future__ import annotations

import torch

from .errors import BadInput


def pick_device(name: str) -> torch.device:
    """The torch device for ``auto``, ``cpu`` or ``cuda``; raises BadInput where it is missing."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("there is no CUDA device here; use --device cpu (or auto)")
    if name not in ("cpu", "cuda"):
        raise BadInput(f"unknown device '{name}'; known: auto, cpu, cuda")
    return torch.device(name)
