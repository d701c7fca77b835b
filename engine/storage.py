"""How many bytes the pruned model takes on disk: written and looked at, not estimated."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from .errors import BadInput
from .files import is_full
from .masks import Masks
from .models.model import Model


def compressed_bytes(model: Model, masks: Masks, folder: Path | None = None) -> int:
    """Size of the compressed export's file; it is written to a temporary folder in `folder`.

    Raises BadInput where the disk is too full for it.
    """
    from .export.base import Source
    from .export.compressed_file import CompressedFile

    with TemporaryDirectory(dir=folder, prefix=".size-") as temporary:
        path = Path(temporary) / "model.safetensors"
        try:
            CompressedFile().write(Source(model, masks), path)
        except OSError as error:
            if is_full(error):
                raise BadInput(
                    f"{folder or temporary}: the disk is too full for the pruned model, or a size "
                    "limit was reached; make room and run again"
                ) from None
            raise
        return path.stat().st_size
