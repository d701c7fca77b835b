"""Opening models by address."""

from .open import inspect_model, open_model

__all__ = ["inspect_model", "open_model"]
