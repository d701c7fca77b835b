"""The layer table of weights alone, without torch: names, shapes and dtypes tell what they can."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from ..gemm import Gemm
from ..info import LayerInfo, ModelInfo
from .header import ITEM_SIZES, Header

Table = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape and dtype by state-dict name."""

# Counting zeros reads every byte; above this the table comes first and densities on request.
COUNT_BELOW = 1 << 30

_KINDS = {2: "Linear", 3: "Conv1d", 4: "Conv2d", 5: "Conv3d"}
_BUFFERS = {"running_mean", "running_var", "num_batches_tracked", "position_ids"}
_MATRIX = re.compile(r"weight(_[ih]h_l\d+(_reverse)?)?$")  # also in_proj_weight
_EMBEDDING = re.compile(r"(^|\.)(wte|wpe|\w*embeddings?|embed_\w+)(\.|$)")
_LOOKED_UP = "an embedding is looked up, not multiplied"
_NO_MATRIX = "a scale or shift per channel, not a matrix"
_UNKNOWN = "a parameter whose use the file does not tell; name the architecture (--arch)"
_NOTE = "weights only: name the architecture (--arch) to run, measure or export to ONNX"
_CHUNK = 16 << 20


def inspect_weights(path: Path, header: Header, count: bool = False) -> ModelInfo:
    """The table of a safetensors file; zeros are counted where it is small or `count` says so."""
    info = weights_info(str(path), path.stem, header.tensors)
    return count_densities(info, path, header) if count or info.bytes <= COUNT_BELOW else info


def weights_info(address: str, name: str, table: Table) -> ModelInfo:
    """The table of a bare state dict, without densities and FLOPs."""
    rows = tuple(rows_from_shapes(table))
    return ModelInfo(
        model=address,
        name=name,
        layers=rows,
        params=sum([row.params for row in rows]),
        bytes=sum([prod(shape) * ITEM_SIZES[dtype] for shape, dtype in table.values()]),
        runnable=False,
        notes=(_NOTE,),
    )


def rows_from_shapes(tensors: Table) -> list[LayerInfo]:
    """One row per matrix, one per module that has none. Kinds are read off the shapes.

    A matrix is taken as [out, in]; only an architecture can tell the few that store it otherwise.
    """
    modules: dict[str, list[str]] = {}
    for name in tensors:
        if is_parameter(name):
            modules.setdefault(name.rpartition(".")[0], []).append(name)
    rows = []
    for path, names in modules.items():
        matrices = [name for name in names if len(tensors[name][0]) >= 2]
        rest = 0
        if len(matrices) < len(names):
            rest = sum([prod(tensors[name][0]) for name in names if name not in matrices])
        if not matrices:
            first = names[0]
            shape, dtype = tensors[first]
            rows.append(
                LayerInfo(path or first, "Parameter", first, shape, rest, dtype, reason=_NO_MATRIX)
            )
        for name in matrices:
            shape, dtype = tensors[name]
            size, kind = prod(shape), _KINDS.get(len(shape))
            gemm = Gemm(shape, shape[2:]) if size and kind else None
            reason = _reason(name, shape, dtype) if gemm else _UNKNOWN
            if reason is _LOOKED_UP:
                kind = "Embedding"
            own = len(matrices) > 1 or not name.endswith(".weight")
            rows.append(
                LayerInfo(
                    name if own else path, kind or "Parameter", name, shape, size + rest, dtype,
                    gemm, None, None, reason is None, reason,
                )
            )  # fmt: skip
            rest = 0  # what is no matrix counts with its module's first one
    return rows


def is_parameter(name: str) -> bool:
    """Whether a tensor of a bare state dict counts as a parameter: by its name, it is no buffer."""
    return name.rpartition(".")[2] not in _BUFFERS


def _reason(name: str, shape: tuple[int, ...], dtype: str) -> str | None:
    """Why a tensor with a GEMM view is not prunable, or None."""
    hinted = "embed" in name or "wte" in name or "wpe" in name
    if len(shape) == 2 and hinted and _EMBEDDING.search(name):
        return _LOOKED_UP
    if not name.endswith(".weight") and not _MATRIX.search(name):
        return _UNKNOWN
    if not dtype.startswith(("float", "bfloat")):
        return f"its weights are {dtype}, not floating point"
    return None


def count_densities(info: ModelInfo, path: Path, header: Header) -> ModelInfo:
    """Fill in each layer's share of non-zeros by reading the file once, in small pieces."""
    with path.open("rb") as file:

        def density(name: str) -> float:
            (start, stop), width = header.offsets[name], ITEM_SIZES[header.tensors[name][1]]
            if start == stop:
                return 1.0
            unsigned, nonzero = np.dtype(f"u{width}"), 0
            signed = header.tensors[name][1].startswith(("float", "bfloat"))
            file.seek(header.data_start + start)
            for begin in range(start, stop, _CHUNK):
                bits = np.frombuffer(file.read(min(_CHUNK, stop - begin)), unsigned)
                # Of a float the first bit is its sign: -0.0 is a zero too.
                nonzero += int(np.count_nonzero(bits << 1 if signed else bits))
            return nonzero * width / (stop - start)

        rows = [replace(row, density=density(row.weight)) for row in info.layers]
    return replace(info, layers=tuple(rows))
