"""Pictures that are pooled where the tensors lie, here through the host emulation."""

import shutil

import numpy as np
import pytest
import torch
from emulate import emulated

from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo, ModelInfo
from secateur.engine.masks import Masks
from secateur.engine.models.model import Model
from secateur.engine.views import pooling
from secateur.engine.views.views import VIEWS, Views

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")

LAYERS = {
    "fc": (torch.float32, Gemm((30, 52))),
    "half": (torch.bfloat16, Gemm((20, 36), transposed=True)),
    "wide": (torch.float64, Gemm((9, 4, 3, 3), (3, 3))),
}


def drawn(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{path}.weight": torch.randn(gemm.stored, generator=generator).to(dtype)
        for path, (dtype, gemm) in LAYERS.items()
    }


@pytest.fixture
def model():
    state = drawn(0)
    rows = tuple(
        LayerInfo(path, "Linear", f"{path}.weight", gemm.stored, 1, "float32", gemm, prunable=True)
        for path, (_, gemm) in LAYERS.items()
    )
    return Model("test", ModelInfo("test", "test", rows, 1, 4), state)


def near(found, expected):
    """Sums in another order may round to the next of 256 steps."""
    assert found.dtype == expected.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("rect", [(0, 0, 99, 99), (2, 3, 8, 25)])
def test_tiles_are_the_same_wherever_the_weights_lie(model, layer, view, rect):
    trained = drawn(1)
    kept = torch.rand(LAYERS[layer][1].shape, generator=torch.Generator().manual_seed(2)) < 0.4
    asked = (layer, view, rect, (5, 11))
    given = {"masks": Masks({layer: kept}), "trained": trained}
    meta, tiles = Views(model).tile(*asked, **given)
    with emulated() as ran:
        other, pixels = Views(model).tile(*asked, **given)
    assert ran.count("cells") >= 2  # the weights' pixels, the mask's
    assert set(ran) == {"cells"}
    near(pixels["value"], tiles["value"])
    near(pixels["density"], tiles["density"])
    assert other.keys() == meta.keys()
    assert other["kept_units"] == meta["kept_units"]
    for key in ("lo", "hi", "energy", "achieved"):
        assert other[key] == pytest.approx(meta[key], rel=1e-5, abs=1e-6), key


def test_limits_are_those_of_a_sample_where_there_are_many_pixels(monkeypatch):
    monkeypatch.setattr(pooling, "_SAMPLE", 100)
    matrix = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    for steps in ((1, 1), (1, 2), (2, 3)):
        with emulated():
            found = pooling.limits_at(matrix, "magnitude", steps)
        assert found == pytest.approx(pooling.limits_at(matrix.numpy(), "magnitude", steps))
