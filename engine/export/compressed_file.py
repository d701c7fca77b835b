"""Compressed safetensors: each weight in the smallest of several exact formats."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...kernels.formats import CSC, CSR, NM, Bitmap, Candidate, Grouped, fullest, smallest
from ...kernels.formats.bits import bits_for, narrow
from ..gemm import Gemm
from ..models.archive import About, read_state, to_lanes, write_tensors
from .base import Difference, Draft, Exporter, Source
from .dense_file import own_memory, row_of, tied_notes
from .tensors import compare_states

_FLOATS = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
_RUNS = (4, 8, 16, 32)


class CompressedFile(Exporter):
    """Bitmap, CSR, CSC, N:M, grouped or dense, whichever is smallest, for each layer's matrix.

    What no format makes smaller (biases, norms, buffers, dense layers) is stored as it is.
    """

    def write(self, source: Source, path: Path) -> Draft:
        gemms = {row.weight: row.gemm for row in source.model.info.layers if row.gemm}
        stored: dict[str, Tensor] = {}
        table, rows = {}, []
        for name, tensor in source.state.items():
            if name in source.tied:
                continue
            packed = pack(tensor, gemms.get(name))
            if packed is None:
                stored[name] = own_memory(tensor)
                rows.append(row_of(name, tensor, "dense", tensor.nbytes))
                continue
            table[name], parts = packed
            stored |= {f"{name}.{part}": own_memory(value) for part, value in parts.items()}
            size = sum(value.nbytes for value in parts.values())
            rows.append(row_of(name, tensor, _label(table[name]), size))
        about = About.of(source.model, "compressed", source.tied, tensors=table)
        # `tied` is in our own JSON alone: the names are not those of tensors in this file.
        metadata = {k: v for k, v in about.metadata().items() if k not in source.tied}
        write_tensors(stored, path, metadata)
        return Draft(tuple(rows), tied_notes(source.tied))

    def compare(self, source: Source, path: Path) -> Difference:
        return compare_states(source.state, read_state(path))


def pack(tensor: Tensor, gemm: Gemm | None) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """How to store a parameter: its entry in the file's table, and the tensors that hold it.

    None for one that no format makes smaller.
    """
    if gemm is None or tensor.dtype not in _FLOATS:
        return None
    matrix = gemm.view(tensor)
    best = smallest(matrix, (*_runs(matrix), *_scattered(matrix), Grouped.from_dense))
    order = "flattened"
    if gemm.taps > 1:
        lanes = to_lanes(matrix, gemm)
        for candidate in _runs(lanes):
            other = candidate(lanes)
            if other.nbytes <= best.nbytes and best.kind != "nm":
                best, order = other, "channel"
    if best.nbytes >= matrix.nbytes:
        return None
    parts = best.parts()
    entry = {
        "format": best.kind,
        "meta": best.meta(),
        "parts": list(parts),
        "order": order,
        "gemm": gemm.to_json(),
    }
    return entry, parts


def _scattered(matrix: Tensor) -> Iterator[Candidate]:
    """Bitmap, and CSR or CSC where an index for each kept entry is less than a bit for each."""
    yield Bitmap.from_dense
    out, ins = matrix.shape
    kept = int(torch.count_nonzero(matrix))
    formats: tuple[tuple[Candidate, int], ...] = ((CSR.from_dense, ins), (CSC.from_dense, out))
    for candidate, lines in formats:
        index = narrow(torch.zeros(0), lines - 1).element_size()
        if kept * index < matrix.numel() / 8:
            yield candidate


def _runs(matrix: Tensor) -> Iterator[Candidate]:
    """The N:M patterns that the matrix obeys and that take no more bytes than a bitmap."""
    out, ins = matrix.shape
    kept = int(torch.count_nonzero(matrix))
    bitmap = kept * matrix.element_size() + -(-out * ins // 8)
    for m in _RUNS:
        n = fullest(matrix, m)
        cells = out * -(-ins // m) * n
        if 0 < n < m and cells * matrix.element_size() + cells * bits_for(m) / 8 <= bitmap:
            yield partial(NM.from_dense, n=n, m=m)


def _label(entry: dict[str, Any]) -> str:
    if entry["format"] == "nm":
        return f"nm:{entry['meta']['n']}:{entry['meta']['m']}"
    return str(entry["format"])
