"""Loaders of one's own, and whose fault it is when something does not fit."""

import sys
import textwrap

import pytest
import torch
from torch import nn

from secateur.engine.calibration.passes import Calibration
from secateur.engine.criteria import CRITERIA
from secateur.engine.data import load_data, only_reads
from secateur.engine.data.evaluate import accuracy, check_fits
from secateur.engine.errors import BadInput
from secateur.engine.models import open_model
from secateur.engine.models.build import from_module
from secateur.engine.views.cache import ByteCache
from secateur.engine.views.preview import Context, NotYet
from secateur.engine.views.preview_statistics import PreviewStatistics

LOADERS = """
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

    X = torch.arange(40.0).view(20, 2)
    Y = torch.arange(20) % 4
    read = []

    class Numbers(Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, index):
            read.append(index)
            return X[index], int(Y[index])

    class Targets(Numbers):
        targets = Y.tolist()

    class Dicts(Numbers):
        def __getitem__(self, index):
            return {"a": X[index], "b": X[index] + 1, "label": Y[index]}

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(zip(X, Y))

    def dataset(): return Numbers()
    def targets(): return Targets()
    def dicts(): return Dicts()
    def pair(): return TensorDataset(X[:15], Y[:15]), TensorDataset(X[15:], Y[15:])
    def loader(): return DataLoader(TensorDataset(X, Y), batch_size=3, shuffle=True)
    def stream(): return DataLoader(Stream(), batch_size=6)
    def tensors(): return X, Y
    def arrays(): return X.numpy(), Y.numpy()
    def generator(): return ((X[i:i + 6], Y[i:i + 6]) for i in range(0, 20, 6))
    def splits(split): return (X[:12], Y[:12]) if split == "train" else (X[12:], Y[12:])
    def named(): return {"x": X, "y": X}, Y

    def nolabels(): return [{"input_ids": X}]
    def nothing(): return None
    def number(): return 3
    def single(): return [X, X, X]
    def floats(): return X, Y / 2
    def lengths(): return [(X, Y), (X[:3], Y[:4])]
    def words(): return [(["a", "b"], Y[:2])]
    def empty(): return []
    def shapes(): return [(X, Y), (X[:, :1], Y)]
    def below(): return X, Y - 1
    def fails(): raise RuntimeError("the disk is gone")

    def late():
        yield X, Y
        raise OSError("the share is gone")

    class Broken(Numbers):
        def __getitem__(self, index):
            if index == 7:
                raise KeyError("seven")
            return X[index], 9 if index == 8 else int(Y[index])

    def broken(): return Broken(), TensorDataset(X, Y)
    class Nested(Numbers):
        def __getitem__(self, index):
            return {"x": X[index]}
    def nested(): return Nested()
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "person").mkdir()
    (folder / "person" / "__init__.py").touch()
    (folder / "person" / "loaders.py").write_text(textwrap.dedent(LOADERS))
    sys.path.insert(0, str(folder))
    yield "person.loaders"
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == "person"]:
        del sys.modules[name]


def values(data, split):
    """The examples' numbers and labels."""
    inputs, labels = next(data.batches(split, 100))
    main = inputs if isinstance(inputs, torch.Tensor) else next(iter(inputs.values()))
    return [int(x[0]) // 2 for x in main], labels


@pytest.mark.parametrize(
    ("name", "train"),
    [("dataset", 16), ("targets", 16), ("dicts", 16), ("pair", 15), ("loader", 16),
     ("stream", 16), ("tensors", 16), ("arrays", 16), ("generator", 16), ("splits", 12),
     ("named", 16)],
)  # fmt: skip
def test_all_forms_give_every_example_once(own, name, train):
    data = load_data(f"{own}:{name}")
    seen = []
    for split in ("train", "validation"):
        numbers, labels = values(data, split)
        assert [number % 4 for number in numbers] == labels.tolist()
        assert labels.dtype == torch.int64
        seen += numbers
    assert sorted(seen) == list(range(20))
    assert (len(data.train), len(data.validation)) == (train, 20 - train)


def test_a_dataset_is_read_when_its_examples_are_asked_for(own):
    data = load_data(f"{own}:targets")
    assert data.validation.take(torch.arange(4))[1].sort().values.tolist() == [0, 1, 2, 3]
    read = sys.modules[own].read
    read.clear()
    next(data.batches("train", 3, seed=1, shuffle=True, first=2))
    assert len(read) == 3


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("nolabels", r"the loader person\.loaders:nolabels gave a dict without labels at batch 0"),
        ("nothing", r"gave a NoneType; it should give a torch Dataset"),
        ("number", "gave a int; it should give"),
        ("single", r"gave float32 \[20, 2\] at batch 0, not \(inputs, labels\)"),
        ("floats", r"gave float32 \[20\] as labels at once, not whole numbers"),
        ("lengths", "gave 3 inputs for 4 labels at batch 1"),
        ("words", "gave a list as inputs at batch 0, not a tensor"),
        ("empty", "gave no batches"),
        ("shapes", "gave batches that differ in shape"),
        ("below", "has label -1"),
        ("fails", r"cannot be called: RuntimeError: the disk is gone"),
        ("late", "failed at batch 1: OSError: the share is gone"),
        ("nested", "gave a dict without labels at example 0"),
        ("missing", "cannot be called: AttributeError"),
    ],
)
def test_a_loader_that_yields_the_wrong_thing(own, name, match):
    with pytest.raises(BadInput, match=match) as caught:
        load_data(f"{own}:{name}")
    assert "the model" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_loaders_faults_and_the_models_are_told_apart(own):
    data = load_data(f"{own}:dataset")
    with pytest.raises(BadInput, match="the model cannot take the inputs of person"):
        check_fits(nn.Linear(3, 4), data)
    check_fits(nn.Linear(2, 4), data)
    module = nn.Linear(2, 4)
    model = from_module(nn.Sequential(module), address="made", name="made", inputs=None)
    broken = load_data(f"{own}:broken")
    with pytest.raises(BadInput, match=r"the loader person\.loaders:broken failed at example 7"):
        list(broken.batches("train", 1))
    with pytest.raises(BadInput, match=r"the loader person\.loaders:broken failed at example"):
        Calibration(model.module, broken).gradients(model.info.prunable, 20)
    part = broken.train.take(torch.tensor([8]))
    assert part[1].tolist() == [9]


def test_a_label_without_a_score_is_found_where_it_turns_up(own):
    data = load_data(f"{own}:dataset")
    assert data.classes == 0
    with pytest.raises(BadInput, match="has label 3, but the model gives 3 scores"):
        accuracy(nn.Linear(2, 3), data)
    model = from_module(nn.Sequential(nn.Linear(2, 3)), address="made", name="made", inputs=None)
    with pytest.raises(BadInput, match="has label 3, but the model gives 3 scores"):
        Calibration(model.module, data).gradients(model.info.prunable, 20)


def test_unknown_modules_name_the_nearest_kind_of_data():
    with pytest.raises(BadInput, match=r"ModuleNotFoundError.*did you mean 'mnist:ROOT'"):
        load_data("mnst:ROOT")
    for address in ("csvv:t.csv", "csvv:/no/such/t.csv"):
        with pytest.raises(BadInput, match=f"did you mean '{address.replace('vv', 'v')}'"):
            load_data(address)
    with pytest.raises(BadInput, match=r"No module named 'no_such'"):
        load_data("no_such.module:make")


def test_previews_run_no_loader_and_fetch_nothing(own):
    assert only_reads("sample:digits")
    assert only_reads("mnist:here")
    assert not only_reads("mnist:here?download=1")
    assert not only_reads(f"{own}:tensors")
    statistics = PreviewStatistics(open_model("sample:digits-resnet"), ByteCache(1 << 20))
    context = Context(seed=0, data=f"{own}:fails")
    with pytest.raises(NotYet, match="which only a run may load"):
        statistics.of("fc", CRITERIA.parse("wanda"), context)
