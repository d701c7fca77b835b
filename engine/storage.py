"""How many bytes the pruned model takes on disk: written and looked at, not estimated."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from .masks import Masks
from .models.model import Model


def compressed_bytes(model: Model, masks: Masks, folder: Path | None = None) -> int:
    """Size of the compressed export's file; it is written to a temporary folder in `folder`."""
    from .export.base import Source
    from .export.compressed_file import CompressedFile

    with TemporaryDirectory(dir=folder, prefix=".size-") as temporary:
        path = Path(temporary) / "model.safetensors"
        CompressedFile().write(Source(model, masks), path)
        return path.stat().st_size
