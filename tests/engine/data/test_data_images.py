"""Image folders and torchvision's sets, in files as they lie on people's disks."""

import gzip
import http.server
import json
import pickle
import struct
import threading
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision.models import ResNet18_Weights

from secateur.engine.calibration.passes import Calibration
from secateur.engine.data import fetch, load_data
from secateur.engine.data.evaluate import accuracy, check_fits
from secateur.engine.errors import BadInput
from secateur.engine.models import open_model
from secateur.engine.models.build import from_module

SHADES = {"black": 20, "grey": 120, "white": 230}


def model_for(*shape, address="made", config=None):
    """What a loader sees of a model whose one input has this shape."""
    return SimpleNamespace(
        address=address, inputs=lambda n: ((torch.zeros(n, *shape),), {}), config=config
    )


def write_classes(root, count, classes=SHADES, size=(20, 14)):
    """Noisy pictures whose brightness tells the class."""
    generator = np.random.default_rng(1)
    for name, shade in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            noise = generator.integers(-20, 21, (*size[::-1], 3))
            pixels = np.clip(shade + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def pictures(tmp_path):
    write_classes(tmp_path / "set" / "train", 6)
    write_classes(tmp_path / "set" / "val", 2)
    return tmp_path / "set"


class Brightness(nn.Module):
    """Tells the three shades apart by the mean of normalised pixels."""

    def forward(self, x):
        mean = x.flatten(1).mean(1, keepdim=True)
        return -(mean - torch.tensor([[-1.7, 0.1, 2.0]])).abs()


@pytest.mark.parametrize("prefix", ["", "folder:"])
def test_a_folder_with_train_and_val(pictures, prefix):
    data = load_data(f"{prefix}{pictures}", model_for(3, 8, 8))
    assert (len(data.train), len(data.validation), data.classes) == (18, 6, 3)
    inputs, labels = next(data.batches("validation", 4))
    assert inputs.shape == (4, 3, 8, 8)
    assert inputs.dtype == torch.float32
    assert labels.tolist() == [0, 0, 1, 1]
    assert data.notes == ()
    assert accuracy(Brightness(), data) == 1


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 12), (3, 200, 200)])
def test_images_come_in_the_models_size(pictures, shape):
    data = load_data(str(pictures), model_for(*shape))
    assert next(data.batches("train", 2, augment=True))[0].shape == (2, *shape)
    flat = load_data(f"{pictures}?size=7", model_for(147))
    assert next(flat.batches("train", 2))[0].shape == (2, 147)
    assert next(load_data(f"{pictures}?size=10").batches("train", 2))[0].shape == (2, 3, 10, 10)


def test_a_folder_without_splits_holds_a_fifth_of_each_class_back(tmp_path):
    write_classes(tmp_path / "set", 10)
    data = load_data(str(tmp_path / "set"), model_for(3, 8, 8))
    assert data.train.labels.bincount().tolist() == [8, 8, 8]
    assert data.validation.labels.bincount().tolist() == [2, 2, 2]
    files = {*data.train.files, *data.validation.files}
    assert len(files) == 30
    again = load_data(str(tmp_path / "set"), model_for(3, 8, 8))
    assert again.validation.files == data.validation.files
    other = load_data(str(tmp_path / "set"), model_for(3, 8, 8), seed=1)
    assert other.validation.files != data.validation.files


def test_torchvisions_weights_get_torchvisions_transforms(pictures):
    model = model_for(3, 224, 224, address="torchvision:resnet18?weights=DEFAULT")
    data = load_data(str(pictures), model)
    expected = ResNet18_Weights.DEFAULT.transforms()
    found, _ = data.validation.take(torch.arange(6))
    for file, picture in zip(data.validation.files, found, strict=True):
        assert torch.allclose(expected(Image.open(file)), picture, atol=1e-6)


def test_a_hugging_face_folder_says_how_its_images_are_prepared(pictures, tmp_path):
    (tmp_path / "model").mkdir()
    size, half = {"height": 8, "width": 8}, [0.5] * 3
    settings = json.dumps({"size": size, "image_mean": half, "image_std": half})
    (tmp_path / "model" / "preprocessor_config.json").write_text(settings)
    data = load_data(str(pictures), model_for(3, 8, 8, address=str(tmp_path / "model"), config={}))
    found, _ = data.validation.take(torch.arange(1))
    whole = Image.open(data.validation.files[0]).resize((8, 8), Image.Resampling.BILINEAR)
    expected = torch.from_numpy(np.asarray(whole).copy()).permute(2, 0, 1) / 127.5 - 1
    assert torch.allclose(found[0], expected, atol=0.02)


def same(left, right):
    left, right = list(left), list(right)
    return len(left) == len(right) and all(
        a.equal(c) and b.equal(d) for (a, b), (c, d) in zip(left, right, strict=True)
    )


class Recorded(list):
    """A list that remembers which of its elements were asked for."""

    def __init__(self, items):
        super().__init__(items)
        self.numbers = []

    def __getitem__(self, number):
        self.numbers.append(number)
        return super().__getitem__(number)


def test_a_resumed_epoch_reads_nothing_that_is_behind_it(pictures):
    data = load_data(str(pictures), model_for(3, 8, 8))

    def epoch(number, first=0):
        return data.batches(
            "train", 4, seed=3, epoch=number, shuffle=True, augment=True, first=first
        )

    whole = list(epoch(2))
    assert same(whole, epoch(2))
    assert not same(whole, epoch(1))
    assert len(whole) == 5 == data.steps("train", 4)
    opened = Recorded(data.train.files)
    data = replace(data, train=replace(data.train, files=opened))
    assert same(whole[3:], epoch(2, first=3))
    assert len(opened.numbers) == 18 - 3 * 4


def test_threads_change_nothing(pictures):
    alone = load_data(str(pictures), model_for(3, 8, 8))
    helped = load_data(f"{pictures}?workers=2", model_for(3, 8, 8))
    kwargs = {"seed": 1, "shuffle": True, "augment": True}
    assert helped.workers == 2
    assert same(alone.batches("train", 4, **kwargs), helped.batches("train", 4, **kwargs))
    left = helped.batches("train", 4, **kwargs)
    next(left)
    left.close()  # ends its threads: the suite fails on threads that stay


def test_augmentation_is_for_training(pictures):
    data = load_data(str(pictures), model_for(3, 8, 8))
    plain = next(data.batches("train", 18))[0]
    moved = next(data.batches("train", 18, augment=True))[0]
    assert plain.equal(next(data.batches("train", 18))[0])
    assert (plain != moved).flatten(1).any(1).double().mean() > 0.7


def test_calibration_and_training_steps_take_streamed_images(pictures):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3))
    model = from_module(module, address="made", name="made", inputs=None)
    data = load_data(f"{pictures}?size=8", model_for(3, 8, 8))
    gradients, steps = Calibration(module, data).gradients(model.info.prunable, 7)
    assert steps == 1
    assert set(gradients) == {"0", "2"}
    inputs, labels = next(data.batches("train", 32, seed=0, shuffle=True, most=7))
    assert len(labels) == 7
    loss = nn.functional.cross_entropy(module(inputs), labels)
    loss.backward()
    assert torch.allclose(gradients["2"], module[2].weight.grad, atol=1e-6)


def test_an_unreadable_image_is_named(pictures):
    (pictures / "train" / "grey" / "3.png").write_bytes(b"\x89PNG no picture")
    data = load_data(str(pictures), model_for(3, 8, 8))
    with pytest.raises(BadInput, match=r"grey/3\.png cannot be read as an image"):
        list(data.batches("train", 18))
    half = (pictures / "train" / "grey" / "2.png").read_bytes()
    (pictures / "train" / "black" / "0.png").write_bytes(half[: len(half) // 2])
    with pytest.raises(BadInput, match=r"black/0\.png cannot be read as an image"):
        list(data.batches("train", 1))


def test_folders_that_are_no_data(pictures, tmp_path):
    def refused(match, address=str(pictures), model=None):
        with pytest.raises(BadInput, match=match) as caught:
            load_data(address, model or model_for(3, 8, 8))
        assert "\n" not in str(caught.value)

    (tmp_path / "none").mkdir()
    refused("has no class folders", str(tmp_path / "none"))
    refused("there is no", f"folder:{tmp_path}/missing")
    refused("no such folder", f"{tmp_path}/missing")
    refused("unknown option 'sizes'; did you mean 'size'", f"{pictures}?sizes=3")
    refused("size takes a whole number", f"{pictures}?size=big")
    refused("size must be at least 1", f"{pictures}?size=0")
    refused("the model takes inputs of 5×8×8", model=model_for(5, 8, 8))
    refused(r"name the images' size, such as \?size=28", model=model_for(192))
    text = SimpleNamespace(
        address="x", inputs=lambda n: ((), {"input_ids": torch.zeros(n, 4)}), config={}
    )
    refused("the model reads text", model=text)
    (pictures / "val" / "green").mkdir()
    refused("has a class 'green' that the training images lack")
    (pictures / "val" / "green").rmdir()
    (pictures / "train" / "aaa").mkdir()
    refused(r"aaa holds no images")
    (pictures / "train" / "aaa").rmdir()
    for file in (pictures / "val").rglob("*.png"):
        file.unlink()
    refused("holds no examples to validate with")


def test_train_without_val_and_val_without_train(pictures):
    (pictures / "val").rename(pictures / "val2")
    with pytest.raises(BadInput, match=r"has train/ but no val/"):
        load_data(str(pictures))
    (pictures / "train").rename(pictures / "elsewhere")
    (pictures / "val2").rename(pictures / "val")
    with pytest.raises(BadInput, match="val/ but no train/"):
        load_data(str(pictures))


def test_a_class_missing_from_validation_is_noted(pictures):
    for file in (pictures / "val" / "grey").iterdir():
        file.unlink()
    data = load_data(str(pictures), model_for(3, 8, 8))
    assert len(data.validation) == 4
    assert data.notes == (
        "validation has no example of 1 class (grey), so the accuracy says nothing about it",
    )


def test_more_classes_than_scores(pictures):
    data = load_data(str(pictures), model_for(3, 8, 8))
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with pytest.raises(BadInput, match="has 3 classes, the model gives 2 scores"):
        check_fits(module, data)


def idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture(params=["mnist:MNIST", "fashion-mnist:FashionMNIST"])
def mnist(request, tmp_path):
    """A tiny set in MNIST's format: row i of an image of class i is white."""
    scheme, inside = request.param.split(":")
    folder = tmp_path / inside / "raw"
    folder.mkdir(parents=True)
    for split, count in (("train", 30), ("t10k", 20)):
        labels = np.arange(count) % 10
        images = np.zeros((count, 28, 28))
        images[np.arange(count), labels + 9] = 255
        idx(folder / f"{split}-images-idx3-ubyte", images)
        idx(folder / f"{split}-labels-idx1-ubyte", labels)
    return f"{scheme}:{tmp_path}", folder


def test_mnist_from_its_own_files(mnist):
    address, folder = mnist
    data = load_data(address, model_for(1, 28, 28))
    assert (len(data.train), len(data.validation), data.classes) == (30, 20, 10)
    inputs, labels = next(data.batches("validation", 20))
    assert inputs.shape == (20, 1, 28, 28)
    assert inputs.sum(3).argmax(2).flatten().equal(labels + 9)
    moved, _ = next(data.batches("train", 30, augment=True))
    assert not moved.equal(next(data.batches("train", 30))[0])
    flat = next(load_data(address, model_for(784)).batches("validation", 20))[0]
    assert flat.equal(inputs.flatten(1))
    colour = next(load_data(address, model_for(3, 32, 32)).batches("validation", 5))[0]
    assert colour.shape == (5, 3, 32, 32)
    with pytest.raises(BadInput, match="of 1×28×28, but the model takes inputs of 100"):
        load_data(address, model_for(100))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"short")
    with pytest.raises(BadInput, match="cannot be read"):
        load_data(address)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(BadInput, match="missing or damaged"):
        load_data(address)


def test_mnist_as_it_is_published_need_not_be_unpacked(mnist):
    address, folder = mnist
    unpacked = load_data(address, model_for(784))
    for file in list(folder.iterdir()):
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    packed = load_data(address, model_for(784))
    for split, count in (("train", 30), ("validation", 20)):
        inputs, labels = next(packed.batches(split, count))
        wanted = next(unpacked.batches(split, count))
        assert torch.equal(inputs, wanted[0])
        assert torch.equal(labels, wanted[1])
    images, labels = folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz"
    for file, damaged, words in (
        (labels, gzip.compress(b"short"), "holds no bytes in IDX format"),
        (labels, gzip.compress(struct.pack(">HBBI", 0, 8, 1, 20) + b"few"), "as much as it says"),
        (images, images.read_bytes()[:60], "ended before"),
        (images, b"no gzip", "Not a gzipped file"),
    ):
        whole = file.read_bytes()
        file.write_bytes(damaged)
        with pytest.raises(BadInput, match=f"raw cannot be read: .*{words}"):
            load_data(address)
        file.write_bytes(whole)


def test_fashion_is_mirrored_and_digits_are_not(mnist):
    address, folder = mnist
    half = np.zeros((30, 28, 28))
    half[:, :, 4:8] = 255
    idx(folder / "train-images-idx3-ubyte", half)
    moved, _ = next(load_data(address).batches("train", 30, augment=True))
    on_the_right = (moved[..., 14:] > 0).any(3).any(2).flatten()
    assert 0.2 < on_the_right.double().mean() < 0.8 or address.startswith("mnist")
    assert on_the_right.any() == address.startswith("fashion")


def test_cifar10_from_its_own_files(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [f"data_batch_{i}" for i in range(1, 6)]
    for name in [*names, "test_batch"]:
        pixels = np.zeros((10, 3, 32, 32), np.uint8)
        pixels[:, 0] = np.arange(10)[:, None, None] * 25
        entry = {"data": pixels.reshape(10, -1), "labels": list(range(10))}
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    with pytest.raises(BadInput, match="missing or damaged"):
        load_data(f"cifar10:{tmp_path}")
    # torchvision knows the published files by their checksums; ours have others.
    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [[name, None] for name in names])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", None]])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": None})
    data = load_data(f"cifar10:{tmp_path}", model_for(3, 32, 32))
    assert (len(data.train), len(data.validation)) == (50, 10)
    inputs, labels = next(data.batches("validation", 10))
    assert inputs.shape == (10, 3, 32, 32)
    red = inputs[:, 0].mean((1, 2)) * 0.2470 + 0.4914
    assert torch.allclose(red, labels * 25 / 255, atol=1e-5)
    assert inputs[:, 1].allclose(torch.tensor(-0.4822 / 0.2435))


@pytest.mark.parametrize("kind", ["cifar10", "mnist", "fashion-mnist"])
def test_nothing_is_downloaded_unasked(tmp_path, kind):
    with pytest.raises(BadInput, match=r"nothing is downloaded unless.*download=1"):
        load_data(f"{kind}:{tmp_path}/set")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def published(tmp_path):
    """A folder and the address where it is served."""
    folder = tmp_path / "published"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_what_is_asked_for_is_downloaded(tmp_path, monkeypatch, published):
    published, served = published
    for split, count in (("train", 20), ("t10k", 10)):
        idx(published / f"{split}-images-idx3-ubyte", np.zeros((count, 28, 28)))
        idx(published / f"{split}-labels-idx1-ubyte", np.arange(count) % 10)
    files = sorted(published.iterdir())
    for file in files:
        file.with_suffix(".gz").write_bytes(gzip.compress(file.read_bytes()))
    # Its own files in place of the published ones, which the tests must not fetch.
    mnist = torchvision.datasets.MNIST
    monkeypatch.setattr(mnist, "mirrors", [served])
    monkeypatch.setattr(mnist, "resources", [(f"{file.name}.gz", None) for file in files])
    address = f"mnist:{tmp_path / 'root'}"
    assert len(load_data(f"{address}?download=1").validation) == 10
    assert len(load_data(address).train) == 20
    monkeypatch.setattr(mnist, "mirrors", ["http://127.0.0.1:1/"])  # nobody answers there
    with pytest.raises(BadInput, match="cannot be read: Error downloading"):
        load_data(f"mnist:{tmp_path / 'other'}", download=True)


@pytest.mark.parametrize("address", ["imagenet:{}", "sample:digits", "csv:{}/x.csv"])
def test_what_cannot_be_downloaded(tmp_path, address):
    with pytest.raises(BadInput, match="cannot be downloaded; cifar10"):
        fetch(address.format(tmp_path))


@pytest.mark.parametrize("kit", [True, False])
def test_imagenet_with_and_without_its_development_kit(tmp_path, kit):
    wnids = {"n01440764": 20, "n01443537": 200}
    write_classes(tmp_path / "train", 3, wnids)
    write_classes(tmp_path / "val", 1, wnids)
    if kit:
        meta = {"n01440764": ("tench",), "n01443537": ("goldfish",)}
        torch.save((meta, ["n01440764", "n01443537"]), tmp_path / "meta.bin")
    data = load_data(f"imagenet:{tmp_path}", open_model("torchvision:squeezenet1_1"))
    assert (len(data.train), len(data.validation), data.classes) == (6, 2, 2)
    inputs, labels = next(data.batches("validation", 2))
    assert inputs.shape == (2, 3, 224, 224)
    assert labels.tolist() == [0, 1]
    assert inputs[0].mean() < 0 < inputs[1].mean()


def test_a_missing_imagenet(tmp_path):
    with pytest.raises(BadInput, match="there is no"):
        load_data(f"imagenet:{tmp_path}/none")
    (tmp_path / "meta.bin").write_bytes(b"no meta")
    with pytest.raises(BadInput, match="cannot be read"):
        load_data(f"imagenet:{tmp_path}")
