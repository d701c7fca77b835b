"""Folders that Hugging Face's `datasets` wrote with ``save_to_disk``, read with pyarrow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput
from .base import Data
from .classes import held_out, labelled
from .images import Images
from .preprocessing import for_images
from .request import SPLITS, Request
from .text import Columns, from_columns, numbered

_LABELS = ("label", "labels", "fine_label")
_IMAGES = ("image", "img")


def is_stored(path: Path) -> bool:
    """Whether ``save_to_disk`` wrote the folder."""
    return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def load(request: Request) -> Data:
    """Texts, or images with their bytes; of a single set without splits a fifth is held out.

    Raises BadInput where pyarrow is missing, or columns are.
    """
    path = request.existing()
    if (path / "dataset_dict.json").is_file():
        folders = {split: _split_folder(path, split) for split in SPLITS}
    elif (path / "state.json").is_file():
        folders = {"train": path}
    else:
        raise BadInput(f"{path} was not written by datasets' save_to_disk")
    tables = {split: _read(folder) for split, folder in folders.items()}
    names = {name for name in _IMAGES if name in tables["train"]}
    return _images(request, tables, names.pop()) if names else from_columns(request, tables, ())


def _split_folder(path: Path, split: str) -> Path:
    words = [word + more for word in SPLITS[split] for more in ("", "_matched")]
    found = next((path / word for word in words if (path / word / "state.json").is_file()), None)
    if found is None:
        raise BadInput(f"{path} has no split '{split}'")
    return found


def _read(folder: Path) -> dict[str, Sequence[Any]]:
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise BadInput(
            f"{folder} can only be read with pyarrow, which is not installed; "
            "pip install secateur[datasets]"
        ) from None
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        tables = []
        for file in state["_data_files"]:
            with pyarrow.memory_map(str(folder / file["filename"])) as source:
                tables.append(pyarrow.ipc.open_stream(source).read_all())
        table = pyarrow.concat_tables(tables)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder} cannot be read: {error}") from None
    if state.get("_indices_data_files"):
        raise BadInput(f"{folder} is a selection of other files; save it with flatten_indices()")
    return {
        name: table[name].to_pylist() if name not in _IMAGES else _Files(table[name])
        for name in table.column_names
    }


@dataclass(frozen=True)
class _Files(Sequence[bytes]):
    """Encoded images that stay on disk until their turn comes."""

    column: Any

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, index: Any) -> Any:
        found = self.column[index].as_py()
        return found["bytes"] or Path(found["path"])


@dataclass(frozen=True)
class _Chosen(Sequence[bytes]):
    """Some elements of a sequence."""

    whole: Sequence[Any]
    numbers: list[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Any:
        return self.whole[self.numbers[index]]


def _images(request: Request, tables: dict[str, Any], column: str) -> Data:
    def labels(columns: Columns) -> Sequence[Any]:
        label = next((name for name in _LABELS if name in columns), None)
        if label is None:
            found = ", ".join(columns)
            raise BadInput(f"{request.name} has no label column (label); found: {found}")
        return columns[label]

    values = [labels(table) for table in tables.values()]
    numbers, names = numbered([v for part in values for v in part], request)
    split = numbers.split([len(part) for part in values])
    preprocessing = for_images(request)
    if len(tables) == 1:
        files = tables["train"][column]
        shares = held_out(split[0], request.seed)
        pairs = [(_Chosen(files, share.tolist()), split[0][share]) for share in shares]
    else:
        pairs = [(table[column], part) for table, part in zip(tables.values(), split, strict=True)]
    train, validation = (Images(files, part, preprocessing) for files, part in pairs)
    return labelled(request, train, validation, len(names), names)
