"""Opening models by address."""

from .open import open_model

__all__ = ["open_model"]
