"""FLOPs are counted where weights are multiplied; weights are taken over, not copied."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import secateur
from secateur.engine.errors import BadInput
from secateur.engine.models import open_model
from secateur.engine.models.architecture import build
from secateur.engine.models.build import from_module
from secateur.engine.models.fill import fill
from secateur.engine.models.flops import TooLong, count_flops
from secateur.engine.models.layers import layer_rows
from secateur.engine.models.model import Inputs


def fed(*shape: int) -> Inputs:
    return lambda batch: ((torch.ones(batch, *shape),), {})


def flops(module: nn.Module, *shape: int) -> dict[str, int | None]:
    info = from_module(module, address="made", name="made", inputs=fed(*shape)).info
    assert info.notes == ()
    return {layer.path: layer.flops for layer in info.layers if layer.flops is not None}


def test_flops_of_every_kind_of_layer() -> None:
    assert flops(nn.Linear(5, 7), 3, 5) == {"weight": 2 * 3 * 5 * 7}
    down = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, groups=2))
    assert flops(down, 4, 9, 9) == {"0": 2 * 16 * 6 * 2 * 9}
    up = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2))
    assert flops(up, 4, 5, 5) == {"0": 2 * 25 * 4 * 3 * 9}
    recurrent = nn.Sequential(nn.LSTM(5, 7, batch_first=True))
    steps = 2 * 3 * 28
    assert flops(recurrent, 3, 5) == {"0.weight_ih_l0": steps * 5, "0.weight_hh_l0": steps * 7}


class Functional(nn.Module):
    """Uses its layers' weights without calling the layers, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.unused = nn.Linear(4, 4), nn.Conv1d(4, 6, 3), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.linear(nn.functional.linear(x, self.a.weight), self.a.weight)
        return nn.functional.conv1d(x.transpose(1, 2), self.b.weight, self.b.bias)


def test_flops_of_weights_that_are_used_without_their_module() -> None:
    assert flops(Functional(), 5, 4) == {"a": 2 * 2 * 5 * 16, "b": 2 * 3 * 6 * 4 * 3}


class Choosing(nn.Module):
    """Looks at values, so that it cannot run without any."""

    def __init__(self) -> None:
        super().__init__()
        self.yes, self.no = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.yes(x) if bool(x.sum() > 0) else self.no(x)


def test_flops_of_a_model_that_looks_at_values() -> None:
    assert flops(Choosing(), 4) == {"yes": 32}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.b.weight = self.a.weight


def test_weights_are_taken_over_without_a_copy() -> None:
    source, module = Tied().half(), Tied()
    state = source.state_dict()
    state["c.weight"] = state["a.weight"]  # shared in the file, but not in the module
    fill(module, state, "bad")
    assert module.c.bias.data_ptr() == source.c.bias.data_ptr()
    assert module.a.weight is module.b.weight
    assert module.c.weight.data_ptr() != module.a.weight.data_ptr()
    assert torch.equal(module.c.weight, source.a.weight)
    assert module.a.weight.dtype == torch.float16
    assert module.norm.num_batches_tracked.dtype == torch.int64


def test_what_older_files_lack_and_what_does_not_fit() -> None:
    source, module = Tied(), Tied()
    older = dict(source.state_dict())
    del older["norm.num_batches_tracked"]
    fill(module, older, "bad")
    assert torch.equal(module.c.weight, source.c.weight)
    del older["c.bias"]
    with pytest.raises(BadInput, match=r"bad: .*c\.bias"):
        fill(Tied(), older, "bad")
    whole = Tied().state_dict()
    whole["c.weight"] = torch.zeros(4, 3)
    with pytest.raises(BadInput, match=r"bad: size mismatch for c\.weight"):
        fill(Tied(), whole, "bad")


def test_a_file_with_a_named_architecture(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    module = build("torchvision:squeezenet1_1").module
    save_file({name: tensor + 1 for name, tensor in module.state_dict().items()}, path)
    model = open_model(str(path), arch="torchvision:squeezenet1_1")
    for name, tensor in module.state_dict().items():
        assert torch.equal(model.state[name], tensor + 1)


class Endless(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        while True:
            x = self.fc(x)


def test_a_model_that_never_ends_is_given_up() -> None:
    module = Endless()
    rows = layer_rows(module)
    with pytest.raises(TooLong, match="did not end"):
        count_flops(module, lambda n: ((torch.ones(n, 4),), {}), rows, seconds=0.2)


def test_a_model_says_what_it_is_and_not_its_weights() -> None:
    model = open_model("sample:digits-resnet")
    assert repr(model) == "Model('sample:digits-resnet': 19 layers, 77,754 parameters)"


def test_what_names_no_model_or_another_kind_of_file_is_said_in_one_sentence(tmp_path):
    with pytest.raises(BadInput, match="sample:NAME, not None"):
        open_model(None)
    with pytest.raises(BadInput, match=r"a \.onnx file is loaded by other programs"):
        secateur.load(tmp_path / "m.onnx")
