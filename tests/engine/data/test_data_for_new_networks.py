"""Fresh networks train sparse on the data that the paper names, from their real layouts."""

import struct

import numpy as np
import pytest
import torch

from secateur.engine.data import load_data
from secateur.engine.errors import BadInput
from secateur.engine.models import open_model
from secateur.engine.plan import Plan
from secateur.engine.runs.runner import Run


def trained(address, data, sparsity=0.8):
    rule = {"layers": "*", "pattern": "element", "sparsity": sparsity}
    training = {"data": data, "epochs": 4, "batch": 32, "lr": 0.1}
    schedule = {"kind": "sparse-training", "every": 5}
    plan = Plan.from_json({"rules": [rule], "schedule": schedule, "training": training})
    run = Run(open_model(address), plan)
    list(run.events())
    return run.outcome.report


def mnist_at(root, inside):
    """A small set in MNIST's format: two rows of an image of class i are white."""
    folder = root / inside / "raw"
    folder.mkdir(parents=True)
    for split, count in (("train", 320), ("t10k", 40)):
        labels = np.arange(count) % 10
        images = np.zeros((count, 28, 28), np.uint8)
        for row in (0, 1):
            images[np.arange(count), 2 * labels + 4 + row] = 255
        for name, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / f"{split}-{name}-ubyte").write_bytes(header + array.tobytes())


@pytest.mark.parametrize(
    ("scheme", "inside"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")]
)
def test_an_mlp_and_a_convnet_take_images_flat_or_not(tmp_path, scheme, inside):
    mnist_at(tmp_path, inside)
    report = trained("new:mlp:784-64-10", f"{scheme}:{tmp_path}")
    assert report.sparsity == pytest.approx(0.8, abs=1e-3)
    assert report.accuracy_pruned > 0.2
    assert trained("new:convnet:1x28x28-4-10", f"{scheme}:{tmp_path}", 0.5).steps == 40


def test_an_mlp_takes_the_features_of_higgs(tmp_path):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(660, 28)).astype(np.float32)
    labels = (features[:, 0] + features[:, 5] > 0).astype(np.float32)
    path = tmp_path / "HIGGS.csv"
    np.savetxt(path, np.column_stack([labels, features]), delimiter=",", fmt="%.6e")
    assert trained("new:mlp:28-64-2", f"higgs:{path}").accuracy_pruned > 0.7
    with pytest.raises(BadInput, match="has 28 features, but the model takes 64 features"):
        trained("new:mlp:64-30-2", f"higgs:{path}")


def test_the_bundled_digits_are_flat_for_an_mlp_and_still_move_as_images():
    images = load_data("sample:digits", open_model("new:convnet:1x8x8-4-10"))
    flat = load_data("sample:digits", open_model("new:mlp:64-30-10"))
    for augment in (False, True):
        options = {"seed": 3, "shuffle": True, "augment": augment}
        for (one, labels), (other, same) in zip(
            images.batches("train", 500, **options), flat.batches("train", 500, **options),
            strict=True,
        ):  # fmt: skip
            assert torch.equal(one.flatten(1), other)
            assert torch.equal(labels, same)
    with pytest.raises(BadInput, match="images of 1×8×8, 64 values each, but the model takes 30"):
        load_data("sample:digits", open_model("new:mlp:30-10"))
