"""A compressed file may hold its matrices in any of the storage formats, damaged ones refused."""

from __future__ import annotations

import pytest
import torch

from secateur.engine.errors import BadInput
from secateur.engine.gemm import Gemm
from secateur.engine.models.archive import About, read_state, write_tensors
from secateur.kernels.formats import BSR, FORMATS, NM, SparseMatrix

CONVOLUTION = Gemm((6, 4, 3, 3), kernel=(3, 3))


def file_with(stored: SparseMatrix, path, **changes: torch.Tensor) -> None:
    parts = stored.parts() | changes
    row = {
        "format": stored.kind, "meta": stored.meta(), "parts": list(parts), "order": "flattened",
        "gemm": CONVOLUTION.to_json(), "dtype": "float32",
    }  # fmt: skip
    about = About("compressed", "new:model", tensors={"conv.weight": row})
    tensors = {f"conv.weight.{name}": part for name, part in parts.items()}
    write_tensors(tensors, path, about.metadata())


def weight() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    kept = torch.rand(6, 4, 3, 3, generator=generator) < 0.3
    return torch.randn(6, 4, 3, 3, generator=generator) * kept


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(tmp_path, kind) -> None:
    matrix = CONVOLUTION.view(weight())
    stored = {
        "nm": lambda: NM.from_dense(matrix, 4, 4),
        "bsr": lambda: BSR.from_dense(matrix, (4, 9)),
    }.get(kind, lambda: FORMATS[kind].from_dense(matrix))()
    path = tmp_path / "model.safetensors"
    file_with(stored, path)
    assert torch.equal(read_state(path)["conv.weight"], weight())
    values = next(name for name in stored.parts() if name.endswith("values"))
    file_with(stored, path, **{values: torch.ones(3, 1)})
    with pytest.raises(BadInput, match="damaged"):
        read_state(path)
