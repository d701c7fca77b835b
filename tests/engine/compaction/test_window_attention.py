"""Swin's attention with fewer heads computes what torchvision's does with zeros in their place."""

from __future__ import annotations

import onnxruntime
import pytest
import torch
from torch import nn
from torchvision.models.swin_transformer import (
    PatchMergingV2,
    ShiftedWindowAttention,
    ShiftedWindowAttentionV2,
    SwinTransformer,
    SwinTransformerBlockV2,
)

from secateur.engine.compaction import compact
from secateur.engine.compaction.window_attention import FewerWindowHeads
from secateur.engine.dependencies import trace
from secateur.engine.export import export
from secateur.engine.masks import Masks, masked
from secateur.engine.models.build import from_module
from secateur.engine.models.model import Model


def unsettle(module: nn.Module) -> None:
    """Give every parameter values that matter; biases of keys too, which V2 must not use."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize("kind", [ShiftedWindowAttention, ShiftedWindowAttentionV2])
@pytest.mark.parametrize("shift", [[0, 0], [2, 1], [0, 2]])
@pytest.mark.parametrize("size", [(12, 8), (9, 6), (4, 8), (3, 3)])
def test_it_is_the_original_while_no_head_is_gone(kind, shift, size):
    original = kind(12, [4, 4], shift, 3).eval()
    unsettle(original)
    x = torch.randn(2, *size, 12)
    with torch.no_grad():
        expected = original(x)
        torch.testing.assert_close(FewerWindowHeads(original)(x), expected, rtol=1e-4, atol=1e-5)


def swin(second: bool) -> Model:
    more = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2} if second else {}
    net = SwinTransformer([2, 2], 16, [2, 2], [2, 4], [4, 4], num_classes=5, **more).eval()
    pictures = lambda n: ((torch.randn(n, 3, 24, 24),), {})  # noqa: E731
    return from_module(net, address="test:swin", name="swin", inputs=pictures)


@pytest.mark.parametrize("second", [False, True])
def test_heads_that_go_are_gone_from_the_export(second, tmp_path):
    model = swin(second)
    masks, channels = Masks(), trace(model)
    for layer in model.info.prunable:
        width = channels.heads(layer.path)
        if width:
            kept = torch.arange(layer.gemm.shape[1]) >= layer.gemm.shape[1] // 2
            masks.layers[layer.path] = kept.expand(layer.gemm.shape).clone()
    result = compact(model, masks)
    assert not [note for note in result.notes if "kept whole" in note]
    attentions = [m for m in result.module.modules() if isinstance(m, FewerWindowHeads)]
    assert [m.num_heads for m in attentions] == [1, 1, 2, 2]
    assert attentions[0].qkv.weight.shape == (24, 16)
    (x,), _ = model.inputs(2)
    with torch.no_grad(), masked(model, masks):
        expected = model.runnable()(x)
    with torch.no_grad():
        torch.testing.assert_close(result.module(x), expected, rtol=1e-3, atol=1e-4)
    if not second:
        done = export(model, masks, "onnx", tmp_path / "swin.onnx")
        assert done.equal
        assert not any("fixed" in note for note in done.notes)
        found = onnxruntime.InferenceSession(done.path).run(None, {"x": x.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-4)
