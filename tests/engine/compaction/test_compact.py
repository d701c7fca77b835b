from __future__ import annotations

import pytest
import torch
import transformers
from torch import Tensor, nn

from secateur.engine.compaction import Compacted, compact
from secateur.engine.compaction.attention import FewerHeads
from secateur.engine.dependencies import trace
from secateur.engine.export import export
from secateur.engine.masks import Masks, masked
from secateur.engine.models import open_model
from secateur.engine.models.build import from_module
from secateur.engine.models.model import Model


def filters(model: Model, sparsity: float = 0.5, seed: int = 0) -> Masks:
    """Random whole outputs of every layer, with the biases and norm entries that go along."""
    generator = torch.Generator().manual_seed(seed)
    channels, masks = trace(model), Masks()
    for layer in model.info.prunable:
        assert layer.gemm is not None
        kept = torch.rand(layer.gemm.shape[0], generator=generator) >= sparsity
        kept[0] = True
        masks.layers[layer.path] = kept[:, None].expand(layer.gemm.shape).clone()
        for name in channels.vectors(layer.path):
            masks.vectors[name] = masks.vectors.get(name, torch.ones_like(kept)) & kept
    return masks


def unsettle(module: nn.Module) -> None:
    """Give norms and zero-initialised layers values in which a mistake would show."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in module.state_dict().items():
        if name.endswith(("running_mean", "bias")) or not bool(tensor.any()):
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))


def outputs(model: Model, module: nn.Module) -> Tensor:
    args, kwargs = model.inputs(2)
    with torch.inference_mode():
        return module(*args, **kwargs)


def small(model: Model, size: int) -> Model:
    """The same model on smaller images."""

    def inputs(batch: int) -> tuple[tuple[Tensor], dict[str, object]]:
        generator = torch.Generator().manual_seed(0)
        return (torch.randn(batch, 3, size, size, generator=generator),), {}

    model.inputs = inputs
    return model


@pytest.mark.parametrize(
    ("name", "size", "shrinks_to"),
    [
        ("resnet18", 64, 0.5),
        ("mobilenet_v2", 64, 0.4),
        ("mobilenet_v3_small", 64, 0.4),
        ("squeezenet1_1", 64, 0.4),
        ("densenet121", 64, 0.7),
        ("shufflenet_v2_x0_5", 64, 0.6),
        ("googlenet", 64, 0.7),
    ],
)
def test_the_small_model_computes_what_the_masked_one_does(name, size, shrinks_to):
    model = small(open_model(f"torchvision:{name}"), size)
    unsettle(model.runnable())
    masks = filters(model)
    before = {name: tensor.clone() for name, tensor in model.state.items()}
    result = compact(model, masks)
    with masked(model, masks):
        expected = outputs(model, model.runnable())
    torch.testing.assert_close(outputs(model, result.module), expected, rtol=1e-3, atol=1e-4)
    assert result.params_after < shrinks_to * result.params_before
    assert result.params_before == model.info.params
    assert result.params_after == sum(p.numel() for p in result.module.parameters())
    assert all(torch.equal(model.state[name], tensor) for name, tensor in before.items())


def test_positions_behind_a_flatten_go_with_their_channel():
    from torchvision.models.vgg import cfgs, make_layers

    net = nn.Sequential(
        make_layers([*cfgs["A"][:5], 64, "M"], batch_norm=True),
        nn.AdaptiveAvgPool2d(7),
        nn.Flatten(),
        nn.Linear(64 * 49, 96),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(96, 10),
    )
    model = small(from_module(net, address="test:vgg", name="vgg", inputs=None), 32)
    unsettle(net)
    masks = filters(model)
    result = compact(model, masks)
    with masked(model, masks):
        expected = outputs(model, net)
    torch.testing.assert_close(outputs(model, result.module), expected, rtol=1e-3, atol=1e-4)
    assert result.params_after < 0.3 * result.params_before
    channels = 64 - result.removed["0.11"]
    assert result.module[3].in_features == 49 * channels


@pytest.mark.parametrize("name", ["digits-resnet", "digits-vit"])
def test_samples(name):
    model = open_model(f"sample:{name}")
    masks = filters(model)
    result = compact(model, masks)
    with masked(model, masks):
        expected = outputs(model, model.runnable())
    torch.testing.assert_close(outputs(model, result.module), expected, rtol=1e-4, atol=1e-5)
    assert result.params_after < result.params_before
    assert any("the model's output" in note for note in result.notes)


def test_counts_are_what_really_went():
    model = open_model("sample:digits-resnet")
    result = compact(model, filters(model))
    for path, gone in result.removed.items():
        weight = result.module.get_submodule(path).weight
        assert weight.shape[0] == model.weight(path).shape[0] - gone
    for path, gone in result.inputs_removed.items():
        weight = result.module.get_submodule(path).weight
        assert weight.shape[1] == model.weight(path).shape[1] - gone
    assert result.removed["layer1.0.conv1"] > 0
    assert result.inputs_removed["layer1.0.conv2"] == result.removed["layer1.0.conv1"]
    for module in result.module.modules():
        if isinstance(module, nn.Conv2d):
            expected = (module.out_channels, module.in_channels // module.groups)
            assert module.weight.shape[:2] == expected


def test_columns_that_all_go_take_the_producer_along():
    model = open_model("sample:digits-resnet")
    mask = torch.ones(model.info.layer("layer1.0.conv2").gemm.shape, dtype=torch.bool)
    mask[:, 9 * 3 : 9 * 5] = False
    masks = Masks({"layer1.0.conv2": mask})
    result = compact(model, masks)
    assert result.removed == {"layer1.0.conv1": 2}
    assert result.inputs_removed == {"layer1.0.conv2": 2}
    with masked(model, masks):
        expected = outputs(model, model.runnable())
    torch.testing.assert_close(outputs(model, result.module), expected, rtol=1e-4, atol=1e-5)


def test_removal_runs_back_through_layers_that_only_served_it():
    net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))
    model = linear_model(net)
    with torch.no_grad():
        # Output 4 of the first layer is read by outputs 0 and 1 of the second, and by those alone.
        net[2].weight[2:, 4] = 0
    kept = torch.ones(3, 7, dtype=torch.bool)
    kept[:, :2] = False
    result = compact(model, Masks({"4": kept}))
    assert result.removed == {"2": 2, "0": 1}
    with masked(model, Masks({"4": kept})):
        expected = outputs(model, net)
    torch.testing.assert_close(outputs(model, result.module), expected)


def linear_model(net: nn.Module) -> Model:
    def inputs(batch: int) -> tuple[tuple[Tensor], dict[str, object]]:
        return (torch.randn(batch, 5, generator=torch.Generator().manual_seed(0)),), {}

    return from_module(net, address="test:net", name="net", inputs=inputs)


class Picky(nn.Module):
    """A forward that insists on its width, in a way that a trace does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.one.out_features != 6:
            raise ValueError("six are needed")
        return self.two(self.one(x).relu())


def test_a_model_that_refuses_to_shrink_is_left_whole():
    model = linear_model(Picky())
    masks = filters(model, seed=1)
    result = compact(model, masks)
    assert result.removed == {}
    assert result.params_after == result.params_before
    assert "six are needed" in result.notes[0]
    with masked(model, masks):
        expected = outputs(model, model.runnable())
    torch.testing.assert_close(outputs(model, result.module), expected)


def test_without_masks_nothing_goes():
    model = open_model("sample:digits-resnet")
    result = compact(model, Masks())
    assert (result.removed, result.inputs_removed, result.notes) == ({}, {}, ())


def heads(model: Model, gone: int = 1) -> Masks:
    """Masks that take the first heads of every attention away."""
    channels, masks = trace(model), Masks()
    for layer in model.info.prunable:
        width = channels.heads(layer.path)
        if width:
            assert layer.gemm is not None
            kept = torch.ones(layer.gemm.shape, dtype=torch.bool)
            kept[:, : gone * width] = False
            masks.layers[layer.path] = kept
    assert masks.layers
    return masks


def units(model: Model, seed: int = 0) -> Masks:
    """Masks that take away half of all that goes only together."""
    channels, masks = trace(model), Masks()
    generator = torch.Generator().manual_seed(seed)
    gone: dict[int, bool] = {}
    for layer in model.info.prunable:
        assert layer.gemm is not None
        own = channels.units(layer.path).tolist()
        for unit in own:
            gone.setdefault(unit, unit >= 0 and bool(torch.rand(1, generator=generator) < 0.5))
        kept = torch.tensor([not gone[unit] for unit in own])
        if len(kept) == layer.gemm.shape[0] and not bool(kept.all()):
            masks.layers[layer.path] = kept[:, None].expand(layer.gemm.shape).clone()
            for name in channels.vectors(layer.path):
                masks.vectors[name] = masks.vectors.get(name, torch.ones_like(kept)) & kept
    return masks


def first(value: object) -> Tensor:
    """The first tensor of a model's outputs."""
    return value if isinstance(value, Tensor) else next(iter(value.values()))


def shrinks(model: Model, masks: Masks) -> Compacted:
    """Compact, and compare outputs on a batch of two with the masked model's."""
    result = compact(model, masks)
    args, kwargs = model.inputs(2)
    with torch.inference_mode():
        with masked(model, masks):
            expected = first(model.runnable()(*args, **kwargs))
        torch.testing.assert_close(
            first(result.module(*args, **kwargs)), expected, rtol=1e-3, atol=1e-4
        )
    assert result.params_after < result.params_before
    assert not [note for note in result.notes if "kept whole" in note]
    return result


def words(batch: int) -> tuple[tuple[object, ...], dict[str, Tensor]]:
    return (), {"input_ids": torch.arange(batch * 9).reshape(batch, 9) % 90 + 3}


def pictures(batch: int) -> tuple[tuple[Tensor], dict[str, object]]:
    return (torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0)),), {}


SIZES = {
    "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48,
}  # fmt: skip
NETWORKS = {
    "Bert": (SIZES, "ForSequenceClassification", words),
    "GPT2": ({"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4}, "LMHeadModel", words),
    "Llama": ({**SIZES, "num_key_value_heads": 2}, "ForCausalLM", words),
    "Mistral": ({**SIZES, "num_key_value_heads": 2}, "ForCausalLM", words),
    "Qwen3": ({**SIZES, "num_key_value_heads": 2, "head_dim": 8}, "ForCausalLM", words),
    "Albert": ({**SIZES, "embedding_size": 16}, "Model", words),
    "ViT": ({**SIZES, "image_size": 32, "patch_size": 8}, "ForImageClassification", pictures),
    "Swin": (
        {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 1], "num_heads": [2, 4],
         "window_size": 4},
        "ForImageClassification", pictures,
    ),
}  # fmt: skip


def transformer(name: str) -> Model:
    """A small network of Hugging Face's with random weights."""
    sizes, task, inputs = NETWORKS[name]
    torch.manual_seed(0)
    module = getattr(transformers, name + task)(getattr(transformers, f"{name}Config")(**sizes))
    unsettle(module)
    return from_module(module, address=f"test:{name}", name=name, inputs=inputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_transformers_lose_heads(name):
    model = transformer(name)
    result = shrinks(model, heads(model))
    # Keys, values, queries and the output of every attention are all smaller.
    assert result.removed
    assert result.inputs_removed


@pytest.mark.parametrize("name", NETWORKS)
def test_transformers_lose_what_goes_together(name):
    model = transformer(name)
    shrinks(model, units(model))


def vision_transformer() -> Model:
    from torchvision.models.vision_transformer import VisionTransformer

    net = VisionTransformer(32, 8, 2, 4, 32, 48, num_classes=5)
    unsettle(net)
    return from_module(net, address="test:vit", name="vit", inputs=pictures)


def test_an_attention_of_torch_is_replaced_by_one_with_fewer_heads():
    model = vision_transformer()
    result = shrinks(model, heads(model, gone=3))
    attention = result.module.encoder.layers[0].self_attention
    assert isinstance(attention, FewerHeads)
    assert attention.num_heads == 1
    assert attention.in_proj_weight.shape == (24, 32)
    assert attention.out_proj.weight.shape == (32, 8)
    shrinks(model, units(model))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("weights", [True, False])
def test_fewer_heads_compute_what_attention_does(batch_first, weights):
    torch.manual_seed(0)
    original = nn.MultiheadAttention(12, 3, batch_first=batch_first, kdim=10, vdim=8).eval()
    same = FewerHeads(original)
    q, k, v = torch.randn(2, 4, 12), torch.randn(2, 5, 10), torch.randn(2, 5, 8)
    if not batch_first:
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    causal = torch.ones(4, 5, dtype=torch.bool).triu(2)
    for options in (
        {},
        {"key_padding_mask": padding},
        {"attn_mask": causal},
        {"attn_mask": torch.randn(6, 4, 5)},
        {"key_padding_mask": padding, "attn_mask": causal, "average_attn_weights": False},
    ):
        expected = original(q, k, v, need_weights=weights, **options)
        found = same(q, k, v, need_weights=weights, **options)
        torch.testing.assert_close(found, expected)
    one = original(q[0], k[0], v[0]), same(q[0], k[0], v[0])
    torch.testing.assert_close(*one)
    with pytest.raises(ValueError, match="entries of their own"):
        FewerHeads(nn.MultiheadAttention(12, 3, add_bias_kv=True))


def test_torchs_encoder_computes_past_no_module_of_ours():
    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
    net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    unsettle(net)
    inputs = lambda b: ((torch.randn(b, 5, 16, generator=torch.Generator().manual_seed(0)),), {})  # noqa: E731
    model = from_module(net, address="test:encoder", name="encoder", inputs=inputs)
    masks = heads(model)
    result = shrinks(model, masks)
    assert result.module.layers[0].self_attn.num_heads == 3


@pytest.mark.parametrize("name", ["swin_t", "swin_v2_t", "shufflenet_v2_x0_5", "resnext50_32x4d"])
def test_networks_of_torchvision_lose_what_goes_together(name):
    model = small(open_model(f"torchvision:{name}"), 64)
    unsettle(model.runnable())
    masks = units(model)
    result = compact(model, masks)
    with masked(model, masks):
        expected = outputs(model, model.runnable())
    torch.testing.assert_close(outputs(model, result.module), expected, rtol=1e-3, atol=1e-4)
    assert result.params_after < 0.75 * result.params_before


class WrittenSizes(nn.Module):
    """Two independent pairs of layers, one of which states a size as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 6), nn.Linear(6, 3)
        self.three, self.four = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x).view(-1, 6).relu()) + self.four(self.three(x).relu())


def test_what_cannot_shrink_does_not_hold_up_the_rest():
    model = linear_model(WrittenSizes())
    masks = filters(model, seed=1)
    result = compact(model, masks)
    assert set(result.removed) == {"three"}
    assert any("one, two kept whole" in note for note in result.notes)
    with masked(model, masks):
        expected = outputs(model, model.runnable())
    torch.testing.assert_close(outputs(model, result.module), expected)


def test_tied_embeddings_stay_tied():
    model = transformer("GPT2")
    result = shrinks(model, heads(model))
    module = result.module
    assert module.lm_head.weight is module.transformer.wte.weight


def test_fewer_heads_are_exported_to_onnx(tmp_path):
    model = open_model("sample:digits-vit")
    done = export(model, units(model), "onnx", tmp_path / "small.onnx")
    rows = {row.name: row.shape for row in done.tensors}
    assert any(rows[f"blocks.{i}.self_attention.in_proj_weight"][0] < 144 for i in range(4))
