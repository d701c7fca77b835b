"""Addresses of fresh networks, their presets, and what is refused."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.engine.errors import BadInput
from secateur.engine.models import open_model
from secateur.engine.new_network import ACTIVATIONS, PRESETS, NewNetwork, is_new, parse

WIDTHS = st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple)
ACTIVATION = st.sampled_from(ACTIVATIONS)


@given(st.integers(1, 99), WIDTHS, ACTIVATION)
def test_an_mlp_reads_back_and_opens_with_its_matrices(features, widths, activation):
    network = NewNetwork("mlp", (features,), widths, activation)
    assert parse(network.address) == network
    assert is_new(network.address)
    model = open_model(network.address)
    assert tuple(row.gemm.shape for row in model.info.prunable) == network.matrices
    assert model.address == network.address
    with torch.no_grad():
        scores = model.module(*model.inputs(3)[0])
    assert scores.shape == (3, network.classes)


@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), WIDTHS)
def test_a_convnet_reads_back_and_opens_with_its_matrices(channels, high, wide, widths):
    network = NewNetwork("convnet", (channels, high, wide), widths)
    assert parse(network.address) == network
    model = open_model(network.address)
    assert tuple(row.gemm.shape for row in model.info.prunable) == network.matrices
    with torch.no_grad():
        assert model.module(*model.inputs(2)[0]).shape == (2, network.classes)


def test_the_same_address_has_the_same_weights_and_says_that_it_has_learned_nothing():
    one, other = (open_model("new:mlp:64-30-10") for _ in range(2))
    assert one.digest() == other.digest()
    assert one.info.data == "sample:digits"
    assert "learned nothing yet" in one.info.notes[0]
    assert open_model("new:convnet:1x8x8-4-10").info.data == "sample:digits"
    assert open_model("new:mlp:28-30-2").info.data is None
    kinds = {name: type(open_model(f"new:mlp:4-3-2?activation={name}").module.act1).__name__
             for name in ACTIVATIONS}  # fmt: skip
    assert kinds == {"relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def test_presets_take_any_inputs_that_they_can():
    for preset in PRESETS:
        network = preset.network((1, 28, 28), 10)
        assert network.classes == 10
        assert parse(network.address) == network
    addresses = {preset.name: preset.network((1, 8, 8), 10).address for preset in PRESETS}
    assert addresses == {
        "300-100": "new:mlp:64-300-100-10",
        "256x3": "new:mlp:64-256-256-256-10",
        "512x5": "new:mlp:64-512-512-512-512-512-10",
        "conv": "new:convnet:1x8x8-16-32-10",
    }
    with pytest.raises(BadInput, match="begin with an image CxHxW"):
        PRESETS[-1].network((28,), 2)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("new:mlp:64-0-10", "every width must be at least 1, not 0"),
        ("new:mlp:64--3", "sizes are whole numbers"),
        ("new:mlp:64", "begin with the number of features and end with the classes"),
        ("new:mlp:8x8-10", "begin with the number of features"),
        ("new:convnet:64-8-10", "begin with an image CxHxW"),
        ("new:mlp:many-10", "sizes are whole numbers, as in new:mlp:64-300-100-10"),
        ("new:cnn:1x8x8-10", "unknown kind of new network 'cnn'"),
        ("new:mlp:64-10?activation=gelu", "unknown activation 'gelu'"),
        ("new:mlp:64-10?seed=3", "unknown option 'seed'; known: activation"),
        ("new:mlp:999999-999999-10", "weights; at most 2,147,483,648 can be opened"),
        ("new:", "write new:"),
    ],
)
def test_a_fault_is_said_in_one_sentence(address, words):
    with pytest.raises(BadInput, match=words) as caught:
        open_model(address)
    assert "\n" not in str(caught.value)


def test_addresses_are_read_without_torch():
    code = "import sys, secateur.engine.new_network; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
