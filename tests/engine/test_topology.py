"""The picture of a changing topology: what is there, what has come and what has gone."""

import numpy as np
import pytest
import torch

from secateur.engine.bitmasks import BitMask, PackedMasks
from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo
from secateur.engine.masks import Masks
from secateur.engine.topology import Topology
from secateur.engine.views.topology import image_of, summary, tile
from secateur.kernels.formats import CSR

LAYER = LayerInfo("fc", "Linear", "fc.weight", (4, 6), 24, "float32", Gemm((4, 6)), prunable=True)
BEFORE = torch.tensor(
    [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1]]
).bool()
NOW = torch.tensor(
    [[1, 0, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 1, 1]]
).bool()
TOPOLOGY = Topology(Masks({"fc": NOW}), PackedMasks({"fc": BEFORE}), 50, 2)


def test_each_cell_has_its_code_and_the_shares_say_the_same():
    meta, arrays = tile(LAYER, TOPOLOGY, (0, 0, 4, 6), (100, 100))
    expected = NOW.int() + (NOW & ~BEFORE).int() + 3 * (BEFORE & ~NOW).int()
    assert np.array_equal(arrays["value"], expected.numpy())
    assert np.array_equal(arrays["density"], NOW.numpy() * 255)
    assert np.array_equal(arrays["grown"], (NOW & ~BEFORE).numpy() * 255)
    assert np.array_equal(arrays["dropped"], (BEFORE & ~NOW).numpy() * 255)
    assert all(part.dtype == np.uint8 for part in arrays.values())
    assert meta["step"] == 50
    assert meta["evolution"] == 2
    assert meta["kept_units"] == 7
    assert meta["achieved"] == pytest.approx(1 - 7 / 24)


def test_a_pixel_of_several_cells_shows_what_there_is_most_of_and_loses_nothing():
    _, arrays = tile(LAYER, TOPOLOGY, (0, 0, 4, 6), (2, 2))
    # Top left: kept 2 (of 6), grown 1, dropped 1; bottom right: kept 1, grown 1.
    assert arrays["value"].tolist() == [[1, 1], [1, 2]]
    assert arrays["density"][0, 0] == np.ceil(255 * 3 / 6)
    assert arrays["dropped"].tolist() == [[np.ceil(255 / 6), 0], [0, 0]]
    _, whole = tile(LAYER, TOPOLOGY, (0, 0, 4, 6), (1, 1))
    assert whole["dropped"].item() == np.ceil(255 / 24)


def test_inputs_and_outputs_are_counted():
    result, arrays = summary(LAYER, TOPOLOGY, (2, 3))
    assert result == {
        "step": 50, "evolution": 2, "kept": 7, "grown": 2, "dropped": 1, "dead_outputs": 1,
        "out": 4, "in": 6, "image": [2, 3],
    }  # fmt: skip
    assert arrays["inputs"].tolist() == NOW.sum(0).tolist()
    assert arrays["outputs"].tolist() == NOW.sum(1).tolist()
    assert arrays["inputs"].dtype == arrays["outputs"].dtype == np.int64
    assert summary(LAYER, TOPOLOGY, (8, 8))[0]["image"] is None


def test_without_masks_all_is_kept_and_first_masks_have_nothing_new():
    result, arrays = summary(LAYER, None)
    assert (result["kept"], result["grown"], result["evolution"]) == (24, 0, 0)
    assert arrays["inputs"].tolist() == [4] * 6
    assert set(np.unique(tile(LAYER, None, (0, 0, 4, 6), (4, 6))[1]["value"])) == {1}
    first = Topology(Masks({"fc": NOW}), PackedMasks())
    assert summary(LAYER, first)[0]["grown"] == 0
    assert summary(LAYER, first)[0]["kept"] == 7


def test_images_are_known_where_the_data_are_grey_images():
    assert image_of("sample:digits") == (8, 8)
    assert image_of("mnist:/data") == (28, 28)
    assert image_of("higgs:/data/higgs.csv") is None
    assert image_of(None) is None


def test_a_mask_is_packed_from_places_alone():
    packed = BitMask.at(CSR.from_mask(NOW.float(), NOW))
    assert torch.equal(packed.unpack(), NOW)
    assert packed.kept == 7
    assert torch.equal(packed.bits, BitMask.of(NOW).bits)
