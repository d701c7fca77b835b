"""Masks are kept one bit a weight and read as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from torch import nn

from secateur.engine.bitmasks import BitMask, PackedMasks
from secateur.engine.errors import BadInput
from secateur.engine.masks import Masks
from secateur.engine.models.build import from_module

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def some(out: int, ins: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(out, ins, generator=torch.Generator().manual_seed(seed)) < 0.4


@pytest.mark.parametrize("device", DEVICES)
@given(st.integers(1, 9), st.integers(1, 30), st.integers(0, 9))
def test_a_mask_comes_back_from_its_bits(device: str, out: int, ins: int, seed: int) -> None:
    mask, other = some(out, ins, seed).to(device), some(out, ins, seed + 1).to(device)
    packed = BitMask.of(mask)
    assert packed.bits.nbytes == -(-out * ins // 8)
    assert torch.equal(packed.unpack(), mask)
    assert (packed.kept, packed.numel) == (int(mask.sum()), mask.numel())
    assert packed.density == int(mask.sum()) / mask.numel()
    both = packed & BitMask.of(other)
    assert torch.equal(both.unpack(), mask & other)
    assert both.kept == int((mask & other).sum())
    assert torch.equal(packed.to("cpu").unpack(), mask.cpu())


def test_strides_do_not_matter() -> None:
    mask = some(6, 10)
    for view in (mask.T, mask[:, ::3], mask[:, :1].expand(6, 7)):
        assert torch.equal(BitMask.of(view).unpack(), view)


def test_masks_are_packed_when_set_and_unpacked_when_got() -> None:
    first, second = some(3, 5), some(4, 4, 1)
    masks = PackedMasks({"a": first, "b": first}, PackedMasks({"b": second}))
    assert list(masks) == ["a", "b"]
    assert torch.equal(masks["a"], first)
    assert torch.equal(masks["b"], second)
    masks["a"].zero_()
    assert torch.equal(masks["a"], first)
    copied = PackedMasks(masks)
    assert copied.packed["b"] is masks.packed["b"]
    del copied["b"]
    assert "b" in masks
    assert "b" not in copied
    assert len(copied) == 1
    assert copied.get("b") is None


def test_density_and_sparsity_are_those_of_the_masks() -> None:
    masks = Masks({"a": some(3, 5), "b": some(40, 7, 1)})
    kept = {path: int(mask.sum()) for path, mask in masks.layers.items()}
    assert masks.density("a") == kept["a"] / 15
    assert masks.density("c") == 1.0
    assert masks.sparsity == (295 - sum(kept.values())) / 295
    assert Masks().sparsity == 0.0


def test_files_are_as_they_were(tmp_path: Path) -> None:
    path, mask, vector = tmp_path / "masks.safetensors", some(3, 7), some(1, 5)[0]
    Masks({"a": mask}, {"a.bias": vector}).save(path)
    stored = load_file(path)
    assert np.array_equal(stored["layer:a"], np.packbits(mask.numpy()))
    assert np.array_equal(stored["vector:a.bias"], np.packbits(vector.numpy()))
    loaded = Masks.load(path)
    assert torch.equal(loaded.layers["a"], mask)
    assert torch.equal(loaded.vectors["a.bias"], vector)


@pytest.mark.parametrize(
    ("bits", "shapes"),
    [
        (np.zeros(2, np.uint8), '{"layer:a": [3, 7]}'),
        (np.zeros(3, np.float32), '{"layer:a": [3, 7]}'),
        (np.full(3, 999), '{"layer:a": [3, 7]}'),
        (np.zeros(3, np.uint8), '{"layer:a": [-3, -7]}'),
        (np.zeros(3, np.uint8), '{"layer:a": ["x"]}'),
        (np.zeros(3, np.uint8), "[]"),
        (np.zeros(3, np.uint8), "{}"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, bits: np.ndarray, shapes: str) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "masks.safetensors"
    save_file({"layer:a": bits}, path, metadata={"shapes": shapes})
    with pytest.raises(BadInput, match="the masks cannot be read"):
        Masks.load(path)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


def test_committed_tensors_are_made_one_at_a_time() -> None:
    model = from_module(Tied(), address="tied", name="tied", inputs=None)
    mask = some(6, 6)
    state = Masks({"first": mask}).committed(model)
    assert list(state) == list(model.state)
    assert state.tied == {"second.weight": "first.weight"}
    for name in ("first.weight", "second.weight"):
        assert torch.equal(state[name], model.state[name] * mask + 0.0)
        assert state[name] is not state[name]
    assert state["first.bias"].data_ptr() == model.state["first.bias"].data_ptr()
    assert not bool((model.state["first.weight"] == 0).any())
