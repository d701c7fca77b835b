"""The bundled models and data are whole, small, and as good as they say."""

import dataclasses
import json
import warnings

import numpy as np
import onnxruntime
import pytest
import safetensors
import safetensors.torch
import torch
from torch.fx import symbolic_trace

from secateur.engine.data import load_data
from secateur.engine.data.evaluate import accuracy
from secateur.resources.samples import (
    DIGITS,
    FOLDER,
    digits,
    make_data,
    models,
    train_digits,
    weights,
)

NAMES = sorted(models.SAMPLES)
BUNDLED = [DIGITS, DIGITS.parent / "LICENSE", *map(weights, NAMES)]


def stored(name):
    with safetensors.safe_open(weights(name), "pt") as file:
        return json.loads(file.metadata()["training"])


def trained(name):
    module = models.SAMPLES[name]().eval()
    module.load_state_dict(safetensors.torch.load_file(weights(name)), strict=True)
    return module


def test_samples_are_a_few_hundred_kilobytes_in_all():
    assert sum(path.stat().st_size for path in BUNDLED) < 1_000_000
    heavy = {p for p in FOLDER.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert heavy == set(BUNDLED)


def test_licence_names_the_source_and_its_terms():
    text = (DIGITS.parent / "LICENSE").read_text(encoding="utf-8")
    for part in ("Alpaydin", "Kaynak", "10.24432/C50P49", "CC BY 4.0", "Changes:"):
        assert part in text


def test_digits_file_is_what_the_script_makes(tmp_path):
    made = tmp_path / "digits.npz"
    make_data.write(made)
    with np.load(made) as new, np.load(DIGITS) as bundled:
        assert set(new) == set(bundled)
        for key in new:
            assert new[key].dtype == bundled[key].dtype
            np.testing.assert_array_equal(new[key], bundled[key])


def test_split_is_disjoint_complete_and_stratified():
    with np.load(DIGITS) as file:
        labels, train, validation = file["labels"], file["train"], file["validation"]
    both = np.concatenate([train, validation])
    np.testing.assert_array_equal(np.sort(both), np.arange(1797))
    for label in range(10):
        held_out = np.sum(labels[validation] == label)
        assert held_out == round(0.2 * np.sum(labels == label))


def test_no_validation_image_is_also_a_training_image():
    train, validation = (digits.read(split)[0] for split in ("train", "validation"))
    seen = {image.numpy().tobytes() for image in train}
    assert not [image for image in validation if image.numpy().tobytes() in seen]


def test_digits_are_in_range():
    for split, count in (("train", 1438), ("validation", 359)):
        images, labels = digits.read(split)
        assert (images.shape, images.dtype) == ((count, 1, 8, 8), torch.float32)
        assert (labels.shape, labels.dtype) == ((count,), torch.int64)
        assert (images.min(), images.max()) == (0, 1)
        assert set(labels.tolist()) == set(range(10))


def test_shift_moves_by_at_most_one_pixel_and_fills_with_zeros():
    images = torch.rand(200, 3, 5, 6)
    moved = digits.shift(images, torch.Generator().manual_seed(0))
    wide = torch.nn.functional.pad(images, (1, 1, 1, 1))
    seen = set()
    for index in range(len(images)):
        fits = {
            (row, column)
            for row in range(3)
            for column in range(3)
            if moved[index].equal(wide[index, :, row : row + 5, column : column + 6])
        }
        assert len(fits) == 1
        seen |= fits
    assert len(seen) == 9


@pytest.mark.parametrize("name", NAMES)
def test_trained_weights_reach_the_accuracy_that_they_state(name):
    data = load_data("sample:digits")
    measured = accuracy(trained(name), data)
    # An other processor may round one image in 359 to the other side.
    assert measured == pytest.approx(stored(name)["accuracy"], abs=1.5 / 359)
    assert measured > 0.97


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_float32_and_finite(name):
    for key, value in safetensors.torch.load_file(weights(name)).items():
        assert value.dtype == torch.float32 or key.endswith("num_batches_tracked")
        assert value.isfinite().all()


def test_resnet_has_the_modules_and_parameters_that_it_says():
    module = models.DigitsResNet()
    assert sum(p.numel() for p in module.parameters()) == 77_754
    shapes = {
        "conv1": (16, 1, 3, 3),
        "layer1.0.conv1": (16, 16, 3, 3),
        "layer2.0.downsample.0": (32, 16, 1, 1),
        "layer3.0.conv2": (64, 64, 3, 3),
        "fc": (10, 64),
    }
    assert {path: tuple(module.get_submodule(path).weight.shape) for path in shapes} == shapes


def test_vit_has_in_projections():
    state = models.DigitsViT().state_dict()
    width = state["patches.weight"].shape[0]
    for block in range(4):
        key = f"blocks.{block}.self_attention.in_proj_weight"
        assert state[key].shape == (3 * width, width)


@pytest.mark.parametrize("name", NAMES)
def test_fx_traces_the_network(name):
    module = trained(name)
    images = digits.read("validation")[0][:5]
    torch.testing.assert_close(symbolic_trace(module)(images), module(images))


@pytest.mark.parametrize("name", NAMES)
def test_inference_computes_what_training_computes(name):
    """No fused path with other outputs stands in once gradients are off."""
    module = trained(name)
    images = digits.read("validation")[0][:50]
    with_gradients = module(images).detach()
    with torch.no_grad():
        torch.testing.assert_close(module(images), with_gradients, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_onnx_export_runs_at_any_batch_size(name, tmp_path):
    module = trained(name)
    images = digits.read("validation")[0]
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            module,
            (images[:2],),
            path,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            input_names=["images"],
            verbose=False,
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 7, 64):
        (found,) = session.run(None, {"images": images[:batch].numpy()})
        expected = module(images[:batch]).detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "epochs"), [("digits-resnet", 2), ("digits-vit", 4)])
def test_training_learns_and_repeats_itself(name, epochs):
    recipe = dataclasses.replace(train_digits.RECIPES[name], epochs=epochs)
    first, again = train_digits.train(name, recipe), train_digits.train(name, recipe)
    assert not first.training
    assert train_digits.accuracy(first, *digits.read("train")) > 0.5
    for key, value in first.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=0, atol=1e-5)


def test_saved_weights_read_back_and_leave_nothing_else(tmp_path):
    module = models.DigitsResNet()
    path = tmp_path / "some.safetensors"
    for _ in range(2):  # over an old file too
        train_digits.save(module, path, {"training": "{}"})
        assert list(tmp_path.iterdir()) == [path]
    state = safetensors.torch.load_file(path)
    assert set(state) == set(module.state_dict())
    assert all(value.equal(module.state_dict()[key]) for key, value in state.items())


@pytest.mark.parametrize("name", NAMES)
def test_stated_recipe_is_the_scripts(name):
    recipe = train_digits.RECIPES[name]
    assert (stored(name)["epochs"], stored(name)["seed"]) == (recipe.epochs, recipe.seed)
