"""The GEMM view is a bijection, and it is what the layers compute."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.engine.gemm import Gemm
from secateur.engine.gemm_check import check
from secateur.engine.models.build import from_module


@st.composite
def gemms(draw: st.DrawFn) -> Gemm:
    if draw(st.booleans()):
        stack = tuple(draw(st.lists(st.integers(1, 4), min_size=3, max_size=3)))
        return Gemm(stack, (), stack[0], draw(st.booleans()))
    kernel = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
    groups = draw(st.integers(1, 3)) if kernel else 1
    a, b = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    transposed = draw(st.booleans())
    stored = (a * groups, b, *kernel)
    return Gemm(stored, kernel, groups, transposed)


@given(gemms())
def test_store_inverts_view(gemm: Gemm) -> None:
    weight = torch.arange(gemm.stored_numel, dtype=torch.float32).view(gemm.stored)
    matrix = gemm.view(weight)
    assert tuple(matrix.shape) == gemm.shape
    assert torch.equal(gemm.store(matrix), weight)
    assert Gemm.from_json(gemm.to_json()) == gemm


def test_columns_run_over_channel_then_kernel() -> None:
    gemm = Gemm((2, 3, 5, 7), (5, 7))
    weight = torch.randn(gemm.stored)
    channel, (row, column) = gemm.position(1 * 35 + 2 * 7 + 6)
    assert (channel, row, column) == (1, 2, 6)
    assert gemm.view(weight)[1, 1 * 35 + 2 * 7 + 6] == weight[1, 1, 2, 6]


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        Gemm((2, 3)).view(torch.zeros(3, 2))


class Zoo(nn.Module):
    """One of every kind of layer that has a GEMM view, with unusual settings."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1d = nn.Conv1d(6, 8, 3, stride=2, padding=1, groups=2)
        self.conv2d = nn.Conv2d(4, 6, 3, padding=2, padding_mode="reflect", dilation=2, groups=2)
        self.conv3d = nn.Conv3d(2, 4, (1, 3, 3), padding="same")
        self.depthwise = nn.Conv2d(4, 4, (3, 2), groups=4, bias=False)
        self.up2d = nn.ConvTranspose2d(
            6, 4, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2
        )
        self.up1d = nn.ConvTranspose1d(4, 6, 4, stride=3)
        self.lstm = nn.LSTM(5, 7, num_layers=2, bidirectional=True)
        self.projected = nn.LSTM(5, 8, proj_size=3)
        self.gru = nn.GRU(5, 7)
        self.attention = nn.MultiheadAttention(8, 2)
        self.cross = nn.MultiheadAttention(8, 2, kdim=4, vdim=6)
        self.table = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.table.weight
        self.first = nn.Linear(3, 5)
        self.second = nn.Linear(3, 5)
        self.second.weight = self.first.weight
        self.normed = torch.nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 3))
        self.scale = nn.Parameter(torch.ones(3))


def test_every_layer_equals_its_gemm_view() -> None:
    model = from_module(Zoo(), address="zoo", name="zoo", inputs=None)
    result = check(model)
    assert not result["skipped"]
    assert result["largest"] < 1e-5
    assert len(result["layers"]) == 28


def test_the_layer_table_counts_every_parameter_once() -> None:
    zoo = Zoo()
    info = from_module(zoo, address="zoo", name="zoo", inputs=None).info
    tied = info.layer("head").params + info.layer("first").shape[0] * info.layer("first").shape[1]
    assert info.params == sum(p.numel() for p in zoo.parameters())
    assert sum(layer.params for layer in info.layers) == info.params + tied


def test_what_cannot_be_pruned_says_why() -> None:
    info = from_module(Zoo(), address="zoo", name="zoo", inputs=None).info
    reasons = {layer.path: layer.reason for layer in info.layers if not layer.prunable}
    assert "looked up" in (reasons["table"] or "")
    assert "table" in (reasons["head"] or "")
    assert "first" in (reasons["second"] or "")
    assert "computed" in (reasons["normed.parametrizations.weight.original1"] or "")
    assert all(reasons.values())
    assert info.layer("first").shares == ("second",)
    assert info.layer("attention.in_proj_weight").prunable
    assert info.layer("lstm.weight_hh_l1_reverse").gemm is not None
