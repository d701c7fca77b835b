from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import secateur
from secateur.kernels.dispatch.dispatcher import Dispatcher
from secateur.kernels.dispatch.memory import Memory
from secateur.kernels.dispatch.question import question_of
from secateur.kernels.dispatch.race import DENSE, winner
from secateur.kernels.dispatch.timing import Timing


@pytest.fixture
def dispatcher(tmp_path: Path, quiet: None) -> Dispatcher:
    return Dispatcher(Memory(tmp_path / "measured"), seconds=0.02)


def grouped_layer(seed: int = 0) -> nn.Linear:
    """512 inputs of which every 16th is read: a win on any machine at batch 256."""
    torch.manual_seed(seed)
    layer = nn.Linear(512, 512)
    with torch.no_grad():
        layer.weight[:, torch.arange(512) % 16 != 0] = 0
    return layer


@pytest.mark.usefixtures("quiet")
def test_the_fastest_form_runs_and_computes_the_same():
    layer, x = grouped_layer(), torch.randn(256, 512)
    # The first answer that another program has not turned around.
    choices = (Dispatcher(seconds=0.02).choose(layer, x) for _ in range(9))
    choice = next(each for each in choices if each.path != DENSE)
    assert choice.path == min(choice.tried, key=choice.tried.__getitem__)
    assert choice.speedup > 1
    assert not choice.remembered
    torch.testing.assert_close(choice.module(x), layer(x), rtol=1e-4, atol=1e-4)


def test_a_choice_is_remembered_on_disk_for_the_same_question(dispatcher, tmp_path):
    x = torch.randn(256, 512)
    first = dispatcher.choose(grouped_layer(), x)
    again = Dispatcher(Memory(tmp_path / "measured")).choose(grouped_layer(seed=1), x)
    assert (again.path, again.tried, again.remembered) == (first.path, first.tried, True)
    other = dispatcher.choose(grouped_layer(), torch.randn(8, 512))
    assert not other.remembered
    fresh = Dispatcher(Memory(tmp_path / "measured", fresh=True), seconds=0.02)
    assert not fresh.choose(grouped_layer(), x).remembered
    assert fresh.choose(grouped_layer(), x).remembered


def test_a_damaged_or_locked_memory_is_as_if_nothing_was_known(dispatcher, tmp_path):
    x = torch.randn(64, 512)
    dispatcher.choose(grouped_layer(), x)
    question = question_of(grouped_layer(), x)
    old = {"question": question, "answer": {"path": "dense", "tried": {"dense": 1.0}}}
    for damaged in ("not json", "[]", "{}", {"question": {}, "answer": {}}, old):
        text = damaged if isinstance(damaged, str) else json.dumps(damaged)
        for file in (tmp_path / "measured").iterdir():
            file.write_text(text)
        again = Dispatcher(Memory(tmp_path / "measured"), seconds=0.02)
        assert not again.choose(grouped_layer(), x).remembered
    (tmp_path / "a file").write_text("")
    nowhere = Dispatcher(Memory(tmp_path / "a file"), seconds=0.02)
    assert not nowhere.choose(grouped_layer(), x).remembered


def test_a_layer_without_zeros_stays_dense_untimed(dispatcher, tmp_path):
    choice = dispatcher.choose(nn.Linear(8, 8), torch.randn(2, 8))
    assert (choice.path, choice.speedup, choice.tried) == (DENSE, 1.0, {})
    assert not (tmp_path / "measured").exists()


def test_a_win_within_noise_is_no_win():
    dense = Timing(1.0, 0.9, 1.1, 9)
    assert winner({DENSE: dense, "close": Timing(0.99, 0.8, 1.0, 9)}) == DENSE
    assert winner({DENSE: dense, "lucky": Timing(0.5, 0.95, 1.0, 9)}) == DENSE
    assert winner({DENSE: dense, "fast": Timing(0.5, 0.4, 0.6, 9)}) == "fast"


def test_the_question_tells_layouts_of_zeros_apart():
    x = torch.randn(2, 16)
    layers = [nn.Linear(16, 16) for _ in range(3)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.fill_(1.0)
        layers[0].weight[:, :8] = 0
        layers[1].weight[:8] = 0
        layers[2].weight[:, ::2] = 0
    lies = [json.dumps(question_of(layer, x)["zeros"]) for layer in layers]
    assert len(set(lies)) == 3


def test_a_model_is_accelerated_as_a_copy(dispatcher):
    model = nn.Sequential(grouped_layer(), nn.ReLU(), nn.Linear(512, 10)).eval()
    x = torch.randn(256, 512)
    fast, choices = dispatcher.accelerate(model, (x,), {})
    assert list(choices) == ["0"]
    assert isinstance(model[0], nn.Linear)
    torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-4)
    assert (type(fast[0]) is nn.Linear) == (choices["0"].path == DENSE)
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert model[2].weight.requires_grad


def test_what_stops_the_check_stops_the_choice(tmp_path):
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Dispatcher(Memory(tmp_path), check=stop).choose(grouped_layer(), torch.randn(4, 512))
    asked = question_of(grouped_layer(), torch.randn(4, 512))
    assert Memory(tmp_path).get(asked) is None


@pytest.mark.usefixtures("quiet")
def test_one_call_accelerates_and_remembers_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    model = nn.Sequential(grouped_layer(), nn.ReLU(), nn.Linear(512, 10)).eval()
    x = torch.randn(256, 512)
    fast, ran = secateur.accelerate(model, x)
    torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-4)
    assert list(ran) == ["0"]
    assert list(tmp_path.rglob("measured/*.json"))
    _, again = secateur.accelerate(model, x)
    assert again["0"].remembered
