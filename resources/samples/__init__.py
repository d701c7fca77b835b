"""The bundled models and their data: small enough to try everything on in seconds."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
DIGITS = FOLDER / "data" / "digits.npz"


def weights(name: str) -> Path:
    """Where the weights of the sample `name` are: a safetensors file of float32."""
    return FOLDER / f"{name}.safetensors"
