"""Data by address, its batches, and the accuracy of a model on it."""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from secateur.engine.data import Data, InMemory, load_data
from secateur.engine.data.evaluate import accuracy
from secateur.engine.errors import BadInput


@pytest.fixture(scope="module")
def data():
    return load_data("sample:digits")


def numbered(count, augment=None):
    """Data whose input i is full of i and has the label i % 3."""
    inputs = torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 2, 4, 4).contiguous()
    split = InMemory(inputs, torch.arange(count) % 3, augment)
    return Data("numbered", split, split, 3)


def same(left, right):
    left, right = list(left), list(right)
    return len(left) == len(right) and all(
        a.equal(c) and b.equal(d) for (a, b), (c, d) in zip(left, right, strict=True)
    )


def test_digits_by_address(data):
    assert (data.name, data.classes) == ("sample:digits", 10)
    assert data.train.inputs.shape == (1438, 1, 8, 8)
    assert data.validation.inputs.shape == (359, 1, 8, 8)


@pytest.mark.parametrize("address", ["sample:digit", "digits", "", "sample:digits "])
def test_unknown_address_names_the_nearest(address):
    with pytest.raises(BadInput, match="sample:digits"):
        load_data(address)


@pytest.mark.parametrize("address", ["d/nothere", "./nothere", "/nothere?size=8"])
def test_a_path_where_nothing_is_says_so(address, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"nothere: no such folder of data$"):
        load_data(address)


def test_a_split_that_does_not_exist_is_refused(data):
    with pytest.raises(ValueError, match="test"):
        next(data.batches("test", 8))


def test_batches_hold_every_example_once_with_its_label():
    data = numbered(70)
    seen = []
    sizes = []
    for inputs, labels in data.batches("train", 32, seed=1, epoch=2, shuffle=True):
        values = inputs[:, 0, 0, 0].long()
        assert labels.equal(values % 3)
        seen += values.tolist()
        sizes.append(len(labels))
    assert sizes == [32, 32, 6]
    assert len(sizes) == data.steps("train", 32)
    assert sorted(seen) == list(range(70)) != seen


def test_without_shuffling_the_order_is_the_files(data):
    inputs, labels = zip(*data.batches("validation", 100), strict=True)
    assert torch.cat(inputs).equal(data.validation.inputs)
    assert torch.cat(labels).equal(data.validation.labels)


def test_batches_depend_only_on_seed_and_epoch(data):
    def epoch(seed, number):
        return data.batches("train", 64, seed=seed, epoch=number, shuffle=True, augment=True)

    first = list(epoch(3, 5))
    torch.rand(10)  # the global generator plays no part
    list(epoch(3, 4))
    assert same(first, epoch(3, 5))
    for other in ((3, 6), (4, 5), (4, 4), (5, 3)):
        assert not same(first, epoch(*other))


def test_the_largest_seed_of_a_plan_works(data):
    inputs, _ = next(data.batches("train", 4, seed=2**63 - 1, epoch=10**6, shuffle=True))
    assert len(inputs) == 4


def test_augmentation_changes_images_only_when_asked_and_never_the_data(data):
    before = data.train.inputs.clone()
    plain = next(data.batches("train", 200))
    moved = next(data.batches("train", 200, augment=True))
    assert plain[0].equal(before[:200])
    assert moved[1].equal(plain[1])
    changed = (moved[0] != plain[0]).flatten(1).any(1).double().mean()
    assert 0.7 < changed < 1  # one shift in nine is none
    assert data.train.inputs.equal(before)


def test_data_without_augmentation_ignores_the_wish():
    data = numbered(10)
    assert same(data.batches("train", 4, augment=True), data.batches("train", 4))


class Answers(nn.Module):
    """Scores the class that its input's number gives, wrong for every fourth input."""

    def __init__(self, wrap=lambda scores: scores):
        super().__init__()
        self.frozen = nn.BatchNorm1d(3)
        self.wrap = wrap

    def forward(self, x):
        assert not self.training
        number = x[:, 0, 0, 0].long()
        right = nn.functional.one_hot((number + (number % 4 == 0)) % 3, 3).float()
        return self.wrap(right)


@pytest.mark.parametrize("batch", [1, 7, 256])
def test_accuracy_is_the_share_of_right_answers(batch):
    assert accuracy(Answers(), numbered(100), batch=batch) == 0.75


def test_accuracy_reads_logits_of_an_output_object():
    answers = Answers(lambda scores: SimpleNamespace(logits=scores))
    assert accuracy(answers, numbered(8)) == 0.75


def test_accuracy_refuses_what_is_no_score():
    with pytest.raises(TypeError, match="tuple"):
        accuracy(Answers(lambda scores: (scores,)), numbered(4))


def test_nan_scores_are_wrong():
    assert accuracy(Answers(lambda scores: scores * float("nan")), numbered(9)) == 0


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: 1 / 0])
def test_accuracy_leaves_every_module_in_its_mode(wrap):
    module = Answers(wrap).train()
    module.frozen.eval()
    with contextlib.suppress(ZeroDivisionError):
        accuracy(module, numbered(8))
    assert module.training
    assert not module.frozen.training


def test_accuracy_of_a_training_module_updates_no_running_mean(data):
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10)).train()
    accuracy(module, data)
    assert module[1].num_batches_tracked == 0
