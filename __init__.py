"""Secateur: a desktop studio for pruning neural networks.

The public names are found when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .engine.models import open_model
    from .engine.models.exported import load
    from .engine.models.switching import load_nested
    from .engine.plan import Plan
    from .engine.runs.runner import Run, run
    from .kernels.dispatch.accelerate import accelerate

__all__ = [
    "Plan",
    "Run",
    "__version__",
    "accelerate",
    "load",
    "load_nested",
    "open_model",
    "run",
]

_HOME = {
    "Plan": ".engine.plan",
    "Run": ".engine.runs.runner",
    "accelerate": ".kernels.dispatch.accelerate",
    "load": ".engine.models.exported",
    "load_nested": ".engine.models.switching",
    "open_model": ".engine.models",
    "run": ".engine.runs.runner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'secateur' has no attribute '{name}'")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return __all__
