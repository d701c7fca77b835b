from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateur.engine.compact import compact
from secateur.engine.dependencies import trace
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
