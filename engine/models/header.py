"""Reading a safetensors file's header without torch: names, shapes, dtypes, metadata."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ..errors import BadInput

_DTYPES = {
    "F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1), "F8_E5M2": ("float8_e5m2", 1), "I64": ("int64", 8),
    "I32": ("int32", 4), "I16": ("int16", 2), "I8": ("int8", 1), "U8": ("uint8", 1),
    "U16": ("uint16", 2), "U32": ("uint32", 4), "U64": ("uint64", 8), "BOOL": ("bool", 1),
    "C64": ("complex64", 8),
}  # fmt: skip

ITEM_SIZES = dict(_DTYPES.values())
"""Bytes of one entry by dtype name."""


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself. `tensors`: name -> (shape, dtype), in file order."""

    tensors: dict[str, tuple[tuple[int, ...], str]]
    metadata: dict[str, str]
    offsets: dict[str, tuple[int, int]]
    data_start: int


def read_header(path: Path) -> Header:
    """Read and check the header; raises BadInput for a missing or damaged file."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise BadInput(
                    f"{path} is truncated or is no safetensors file: its header should have "
                    f"{length} bytes, the file has {size}; fetch or write it again"
                )
            raw = file.read(length)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    tensors, offsets, end = {}, {}, 0
    try:
        table = json.loads(raw)
        metadata = table.pop("__metadata__", {})
        for name, entry in table.items():
            shape, (start, stop) = tuple(entry["shape"]), entry["data_offsets"]
            dtype, width = _DTYPES[entry["dtype"]]
            count = math.prod(shape)
            if type(count) is not int or min(shape, default=0) < 0:
                raise BadInput(f"{path} is damaged: {name} cannot have the shape {list(shape)}")
            if stop - start != count * width:
                raise BadInput(f"{path} is damaged: the bytes of {name} do not match its shape")
            tensors[name], offsets[name] = (shape, dtype), (start, stop)
            end = max(end, stop)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(f"{path} is no safetensors file: its header cannot be read") from None
    if 8 + length + end != size:
        raise BadInput(
            f"{path} is truncated: it should have {8 + length + end} bytes and has {size}; "
            "fetch or write it again"
        )
    places = sorted(offsets.values())
    if any(stop != start for (_, stop), (start, _) in pairwise(places)):
        raise BadInput(f"{path} is damaged: its tensors overlap or leave gaps")
    return Header(tensors, metadata, offsets, 8 + length)
