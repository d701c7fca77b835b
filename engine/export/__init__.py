"""Writing the pruned model to a file, reading it back, and only then calling it done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadInput, nearest
from ..files import replacing
from ..outputs import Mismatch
from .base import Difference, Exported, TensorRow

if TYPE_CHECKING:
    from ..masks import Masks
    from ..models.model import Model
    from ..nested import Levels
    from .base import Exporter

FORMATS = ("onnx", "safetensors", "compressed", "nested")
SUFFIXES = {**dict.fromkeys(FORMATS, ".safetensors"), "onnx": ".onnx"}


def export(
    model: Model, masks: Masks, format: str, path: str | Path, levels: Levels | None = None
) -> Exported:
    """Write `model` with its masks committed to the file `path` and compare what can be read back.

    `format` is one of `FORMATS`. The comparison runs on a temporary file beside `path`, which takes
    the place of `path` only afterwards: whatever goes wrong, a file that was there stays.
    ``nested`` takes `levels` and holds them all; every other format holds `masks`.

    Raises BadInput for an unknown format, a path that can't be written, a full disk, or a model
    that the format can't hold; Mismatch if the file does not give the model back.
    """
    from ..permute import folded
    from .base import Source

    exporter = _exporter(format, levels)
    path = Path(path)
    if levels is not None and format == "nested":
        masks = levels.masks[0]
    inner, inner_masks, notes = folded(model, masks)
    with replacing(path) as temporary:
        source = Source(inner, inner_masks)
        draft = exporter.write(source, temporary)
        difference = exporter.compare(source, temporary)
        if not difference.equal:
            raise Mismatch(
                f"{path}: what was written does not read back as the model ({difference.text}); "
                "the export was thrown away and the file that was there, if any, is unchanged"
            )
        size = temporary.stat().st_size
    return Exported(
        path=path,
        format=format,
        bytes=size,
        dense_bytes=model.info.bytes,
        tensors=draft.tensors,
        max_difference=difference.max_difference,
        equal=difference.equal,
        notes=(*draft.notes, *notes),
        shared=draft.shared,
    )


def _exporter(format: str, levels: Levels | None) -> Exporter:
    if format == "onnx":
        from .onnx_file import Onnx

        return Onnx()
    if format == "safetensors":
        from .dense_file import DenseFile

        return DenseFile()
    if format == "compressed":
        from .compressed_file import CompressedFile

        return CompressedFile()
    if format == "nested":
        from .nested_file import NestedFile

        if levels is None:
            raise BadInput(
                "format nested holds several levels of one run, and this one has none; prune with "
                "schedule: nested first, or export to compressed"
            )
        return NestedFile(levels)
    raise BadInput(f"unknown export format '{format}'{nearest(format, FORMATS)}")


__all__ = ["FORMATS", "SUFFIXES", "Difference", "Exported", "Mismatch", "TensorRow", "export"]
