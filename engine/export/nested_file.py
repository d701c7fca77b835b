"""Nested levels in one safetensors file: weights once, and at which levels each is kept (S4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...kernels.formats import Bitmap, Grouped, LevelIndex, smallest
from ..gemm import Gemm
from ..levels import SharedBytes
from ..models.archive import About, read_state, write_tensors
from ..nested import Levels, ranks_of
from .base import Difference, Draft, Exporter, Source
from .dense_file import own_memory, row_of, tied_notes
from .storage import compressed_bytes
from .tensors import compare_states


class NestedFile(Exporter):
    """The weights of the loosest level, and an index of a few bits for each of them.

    A matrix under a mask is stored as a bitmap or grouped, whichever is smaller, so that what its
    values, their positions and the levels take is told apart; what has no mask is stored whole.
    """

    def __init__(self, levels: Levels) -> None:
        self._levels = levels

    def write(self, source: Source, path: Path) -> Draft:
        flags = [masks.by_parameter(source.model.info) for masks in self._levels.masks]
        gemms = {row.weight: row.gemm for row in source.model.info.layers if row.gemm}
        names: dict[str, list[str]] = {name: [name] for name in source.state}
        for other, kept in source.tied.items():
            names[kept].append(other)
        stored: dict[str, Tensor] = {}
        table, rows, sums = {}, [], _Sums()
        for name, tensor in source.state.items():
            if name in source.tied:
                continue
            masked = [own for own in names[name] if own in flags[0]]
            if not masked:
                stored[name] = own_memory(tensor)
                rows.append(row_of(name, tensor, "dense", tensor.nbytes))
                continue
            shared = [_all([level[own] for own in masked]) for level in flags]
            entry, parts = self._pack(tensor, gemms.get(name), ranks_of(shared))
            sums.add(tensor, parts)
            table[name] = entry
            stored |= {f"{name}.{part}": own_memory(value) for part, value in parts.items()}
            size = sum(value.nbytes for value in parts.values())
            rows.append(row_of(name, tensor, "nested", size))
        about = About.of(
            source.model,
            "nested",
            source.tied,
            tensors=table,
            levels=list(self._levels.sparsities),
        )
        # `tied` is in our own JSON alone: the names are not those of tensors in this file.
        metadata = {k: v for k, v in about.metadata().items() if k not in source.tied}
        write_tensors(stored, path, metadata)
        separate = tuple(
            compressed_bytes(source.model, masks, path.parent) for masks in self._levels.masks
        )
        shared_bytes = SharedBytes(
            weights=sums.weights,
            kept=sums.kept,
            dense=sums.dense,
            values=sums.values,
            positions=sums.positions,
            index=sums.index,
            total=path.stat().st_size,
            separate=separate,
        )
        return Draft(tuple(rows), tied_notes(source.tied), shared_bytes)

    def _pack(
        self, tensor: Tensor, gemm: Gemm | None, ranks: Tensor
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """A tensor under a mask: its entry in the file's table, and the tensors that hold it."""
        count = len(self._levels.masks)
        if gemm is None:
            index = LevelIndex.of(ranks, tensor != 0, count)
            parts = {"values": tensor, "levels": index.packed}
            return {"format": "whole", "levels": index.meta()}, parts
        matrix = gemm.view(tensor)
        best = smallest(matrix, (Grouped.from_dense, Bitmap.from_dense))
        index = LevelIndex.of(gemm.view(ranks), matrix != 0, count)
        entry = {
            "format": best.kind,
            "meta": best.meta(),
            "parts": list(best.parts()),
            "order": "flattened",
            "gemm": gemm.to_json(),
            "levels": index.meta(),
        }
        return entry, {**best.parts(), "levels": index.packed}

    def compare(self, source: Source, path: Path) -> Difference:
        """Every level, bit for bit."""
        for sparsity, masks in zip(self._levels.sparsities, self._levels.masks, strict=True):
            state = masks.committed(source.model)
            found = compare_states(state, read_state(path, sparsity))
            if not found.equal:
                text = f"at level {sparsity:g} {found.text}"
                return Difference(found.max_difference, False, text)
        return Difference(0.0, True)


class _Sums:
    """Bytes of the tensors under masks, by what they are for."""

    def __init__(self) -> None:
        self.weights = self.kept = self.dense = self.values = self.positions = self.index = 0

    def add(self, tensor: Tensor, parts: dict[str, Tensor]) -> None:
        self.weights += tensor.numel()
        self.kept += int(torch.count_nonzero(tensor))
        self.dense += tensor.nbytes
        self.values += parts["values"].nbytes
        self.index += parts["levels"].nbytes
        others = parts.keys() - {"values", "levels"}
        self.positions += sum(parts[name].nbytes for name in others)


def _all(flags: list[Tensor]) -> Tensor:
    """True where all are: a mask on any name of a shared weight holds for it."""
    return torch.stack(flags).all(dim=0) if len(flags) > 1 else flags[0]
