"""Dense safetensors with zeros, under the model's own names: what every other program loads."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..models.archive import About, read_state, write_tensors
from .base import Difference, Draft, Exporter, Source, TensorRow
from .tensors import compare_states


class DenseFile(Exporter):
    """As large as the dense model: the zeros are there, written out."""

    def write(self, source: Source, path: Path) -> Draft:
        kept = {n: own_memory(t) for n, t in source.state.items() if n not in source.tied}
        about = About.of(source.model, "dense", source.tied)
        write_tensors(kept, path, about.metadata())
        rows = tuple(row_of(name, tensor, "dense", tensor.nbytes) for name, tensor in kept.items())
        notes = tied_notes(source.tied)
        return Draft(rows, (*notes, "the zeros are written out, so the file is not smaller"))

    def compare(self, source: Source, path: Path) -> Difference:
        return compare_states(source.state, read_state(path))


def own_memory(tensor: Tensor) -> Tensor:
    """The tensor on the CPU, contiguous, and in memory that it shares with no other."""
    tensor = tensor.cpu().contiguous()
    return tensor.clone() if tensor.untyped_storage().nbytes() != tensor.nbytes else tensor


def row_of(name: str, tensor: Tensor, format: str, size: int) -> TensorRow:
    """The row of a tensor that takes `size` bytes in `format`."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorRow(name, tuple(tensor.shape), dtype, format, size, tensor.nbytes)


def tied_notes(tied: dict[str, str]) -> tuple[str, ...]:
    """A sentence about weights that have several names."""
    if not tied:
        return ()
    other, kept = next(iter(tied.items()))
    more = f" and {len(tied) - 1} more" if len(tied) > 1 else ""
    return (f"{other} shares its weight with {kept}{more}; it is stored once",)
