"""How many bytes the pruned model takes on disk: written and looked at, not estimated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import BadInput
from ..files import is_full
from ..masks import Masks
from ..models.model import Model


def compressed_bytes(model: Model, masks: Masks, folder: Path | None = None) -> int:
    """Size of the compressed export's file; it is written to a temporary folder in `folder`.

    Raises BadInput where the disk is too full for it.
    """
    from ..permute import folded
    from .base import Source
    from .compressed_file import CompressedFile

    with trial(folder) as path:
        model, masks, _ = folded(model, masks)
        CompressedFile().write(Source(model, masks), path)
        return path.stat().st_size


@contextmanager
def trial(folder: Path | None) -> Iterator[Path]:
    """A file to write to in `folder`, or where temporary files go, that is deleted again.

    Raises BadInput where the disk is too full for it.
    """
    with TemporaryDirectory(dir=folder, prefix=".size-") as temporary:
        try:
            yield Path(temporary) / "model.safetensors"
        except OSError as error:
            if is_full(error):
                raise BadInput(
                    f"{folder or temporary}: the disk is too full for the pruned model, or a size "
                    "limit was reached; make room and run again"
                ) from None
            raise
