from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from secateur.engine.dependencies import trace
from secateur.engine.errors import BadInput
from secateur.engine.events import Cancelled, Finished, LayerDone, Log, Progress, Started
from secateur.engine.masks import Masks, masked
from secateur.engine.measuring.forms import fewer_outputs, replaced
from secateur.engine.measuring.measure import measure
from secateur.engine.measuring.request import Request
from secateur.engine.models import open_model
from secateur.engine.models.build import from_module
from secateur.engine.models.model import Model
from secateur.kernels.dispatch.candidates import candidates

KEYS = {
    "model", "layer", "pattern", "kept", "batch", "dtype", "device", "ran", "dense_ms",
    "dense_q1_ms", "dense_q3_ms", "ms", "q1_ms", "q3_ms", "speedup", "spread", "tried", "roofline",
    "steps", "verdict", "crossover", "cached",
    "disturbed",
}  # fmt: skip


GROUPED = Request(patterns=("group",), sparsities=(0.5,))


def cells(events: list) -> list[dict]:
    assert isinstance(events[-1], Finished)
    result = events[-1].result
    assert json.loads(json.dumps(result)) == result
    live = [e.values for e in events if isinstance(e, LayerDone)]
    assert [row for row in live if "error" in row] == result["failed"]
    late = [{**cell, "crossover": None} for cell in result["cells"]]
    assert [row for row in live if "error" not in row] == late
    return result["cells"]


def check(cell: dict) -> None:
    assert set(cell) == KEYS
    assert 0 < cell["ms"] <= cell["dense_ms"]
    assert cell["speedup"] == pytest.approx(cell["dense_ms"] / cell["ms"])
    if cell["ran"] == "dense":
        assert cell["ms"] == cell["dense_ms"]
        assert cell["speedup"] == 1.0
    assert all(tried["path"] not in (cell["ran"], "dense") for tried in cell["tried"])
    for row in (cell, *cell["tried"]):
        assert 0 < row["q1_ms"] <= row["ms"] <= row["q3_ms"]
    assert 0 < cell["dense_q1_ms"] <= cell["dense_ms"] <= cell["dense_q3_ms"]
    assert cell["verdict"]["kind"] in ("faster", "same", "slower", "busy")
    roofline = cell["roofline"]
    assert roofline["share"] == pytest.approx(roofline["limit_ms"] / cell["ms"])
    assert roofline["operations"] > 0


def wide(first: int = 512) -> Model:
    """Linear layers so large that what is left out shows in any machine's times."""
    net = nn.Sequential(nn.Linear(first, 2048), nn.ReLU(), nn.Linear(2048, 1024))

    def inputs(batch: int) -> tuple[tuple[Tensor], dict[str, object]]:
        return (torch.randn(batch, first, generator=torch.Generator().manual_seed(0)),), {}

    return from_module(net, address="test:wide", name="wide", inputs=inputs)


def test_every_layer_pattern_and_sparsity_gets_its_cell():
    model = open_model("sample:digits-resnet")
    asked = {
        "patterns": ("group", "filter", "nm:2:4"),
        "sparsities": (0.5, 0.75),
        "batches": (2,),
        "devices": ("cpu",),
    }
    events = list(measure(model, request=Request(**asked), seconds=0.01))
    assert isinstance(events[0], Started)
    table = cells(events)
    for cell in table:
        check(cell)
        assert cell["model"] == "sample:digits-resnet"
        assert (cell["batch"], cell["dtype"], cell["device"]) == (2, "float32", "cpu")
    layers = len(model.info.prunable)
    # N:M says its own sparsity, so that it is measured once.
    assert len(table) == 5 * (layers + 1)
    assert sum(cell["layer"] is None for cell in table) == 5
    nm = [cell for cell in table if cell["pattern"].startswith("nm")]
    assert {cell["ran"] for cell in nm} == {"dense"}
    for pattern, paths in (
        ("group", {"dense", "grouped (gather)", "grouped (channels)", "grouped"}),
        ("filter", {"dense", "compacted", "grouped (outputs)", "compacted, grouped"}),
    ):
        mine = [cell for cell in table if cell["pattern"] == pattern]
        seen = {cell["ran"] for cell in mine} | {t["path"] for c in mine for t in c["tried"]}
        assert seen <= paths
        assert len(seen) > 1
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[-1].done == progress[-1].total == len(table)


def test_outputs_that_must_stay_are_not_offered():
    model = open_model("sample:digits-resnet")
    events = measure(
        model,
        request=Request(patterns=("filter",), sparsities=(0.5,), layers=("fc",)),
        seconds=0.01,
    )
    (cell,) = cells(list(events))
    assert "compacted" not in {cell["ran"], *(tried["path"] for tried in cell["tried"])}


def test_columns_that_go_make_a_large_layer_faster():
    asked = Request(patterns=("group",), sparsities=(0.95,), layers=("2",), batches=(64,))
    events = measure(wide(), request=asked)
    (cell,) = cells(list(events))
    paths = {cell["ran"], *(tried["path"] for tried in cell["tried"])}
    assert "grouped (gather)" in paths
    assert cell["kept"] == pytest.approx(0.05, abs=0.001)


def test_a_pruned_model_is_measured_as_it_is():
    model = open_model("sample:digits-resnet")
    channels, masks = trace(model), Masks()
    kept = torch.arange(32) % 4 == 0
    masks.layers["layer2.0.conv1"] = kept[:, None].expand(32, 144).clone()
    for name in channels.vectors("layer2.0.conv1"):
        masks.vectors[name] = kept
    columns = torch.arange(288) % 9 == 4
    masks.layers["layer2.0.conv2"] = columns.expand(32, 288).clone()
    whole = {"layer2.0.conv1": "filter", "layer2.0.conv2": "group", None: "mixed"}
    table = cells(list(measure(model, masks, seconds=0.02)))
    assert {cell["layer"]: cell["pattern"] for cell in table} == whole
    for cell in table:
        check(cell)
    paths = {
        cell["layer"]: {cell["ran"], *(tried["path"] for tried in cell["tried"])} for cell in table
    }
    assert paths["layer2.0.conv1"] <= {"dense", "compacted"}
    # The producer's removed filters took input channels away, and single positions are left out.
    assert "compacted, grouped (gather)" in paths["layer2.0.conv2"]
    assert "compacted" in paths[None]
    labels = {"layer2.0.conv1": "row", "layer2.0.conv2": "column"}
    asked = Request(layers=("layer2*",))
    named = cells(list(measure(model, masks, asked, labels=labels, seconds=0.01)))
    assert [cell["pattern"] for cell in named] == ["row", "column", "mixed"]


def test_a_layer_that_cannot_run_alone_says_so_and_the_rest_goes_on():
    model = open_model("sample:digits-vit")
    events = list(measure(model, request=GROUPED, seconds=0.01))
    logs = [event.text for event in events if isinstance(event, Log)]
    measured = {cell["layer"] for cell in cells(events)}
    inside = [p.path for p in model.info.prunable if p.path.endswith("in_proj_weight")]
    assert inside
    for path in inside:
        assert path not in measured
    told = [text for text in logs if "not measured alone" in text]
    assert len(told) == 1
    assert told[0].startswith(f"{inside[0]} and {2 * len(inside) - 1} more")
    assert None in measured


def test_cancel_stops_between_timings():
    asked: list[float] = []

    def cancel() -> bool:
        asked.append(time.perf_counter())
        return len(asked) > 20

    events = list(measure(open_model("sample:digits-resnet"), cancel=cancel, seconds=0.01))
    assert isinstance(events[-1], Cancelled)
    assert not any(isinstance(event, Finished) for event in events)
    assert len(asked) == 21


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batches": (0,)}, "batch must be at least 1"),
        ({"sparsities": (1.5,)}, "below 1"),
        ({"patterns": ("grup",)}, "did you mean 'group'"),
        ({"layers": ("layer9.*",)}, "no prunable layer matches"),
        ({"devices": ("gpu",)}, "unknown device"),
        ({"dtypes": ("float8",)}, "unknown dtype 'float8'"),
    ],
)
def test_bad_input_is_one_clear_sentence(options, words):
    model = open_model("sample:digits-resnet")
    with pytest.raises(BadInput, match=words) as caught:
        list(measure(model, request=Request(**options)))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_bad_input():
    with pytest.raises(BadInput, match="CUDA"):
        list(measure(open_model("sample:digits-resnet"), request=Request(devices=("cpu", "cuda"))))


def test_a_model_without_inputs_is_bad_input():
    model = wide()
    model.inputs = None
    with pytest.raises(BadInput, match="no example input"):
        list(measure(model))


def test_the_model_is_left_as_it_was():
    model = open_model("sample:digits-resnet")
    before = {name: tensor.clone() for name, tensor in model.state.items()}
    list(measure(model, request=replace(GROUPED, patterns=("filter",)), seconds=0.005))
    assert all(torch.equal(model.state[name], tensor) for name, tensor in before.items())
    assert not any(module._forward_pre_hooks for module in model.runnable().modules())


def test_grouped_forms_in_the_whole_model_compute_what_the_masked_model_does():
    model = open_model("sample:digits-resnet")
    mask = (torch.rand(144, generator=torch.Generator().manual_seed(0)) < 0.4).expand(16, 144)
    masks = Masks({"layer1.0.conv2": mask.clone()})
    args, _ = model.inputs(3)
    with torch.inference_mode(), masked(model, masks):
        expected = model.module(*args)
        layer = model.module.get_submodule("layer1.0.conv2")
        forms = dict(candidates(layer))
    for form in forms.values():
        with torch.inference_mode():
            result = replaced(model.module, {"layer1.0.conv2": form})(*args)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    assert forms


def test_fewer_outputs_are_those_that_were_kept():
    kept = torch.tensor([True, False, True, True, False, True])
    for module, x in (
        (nn.Linear(5, 6), torch.randn(2, 5)),
        (nn.Conv2d(3, 6, 3), torch.randn(2, 3, 5, 5)),
        (nn.Conv2d(6, 6, 3, groups=6), torch.randn(2, 6, 5, 5)),
        (nn.Conv1d(3, 6, 3), torch.randn(2, 3, 5)),
    ):
        form = fewer_outputs(module, kept, x)
        assert form is not None
        expected = module(x)[:, kept]
        torch.testing.assert_close(form.module(*form.args), expected)
    assert fewer_outputs(nn.Conv2d(6, 6, 1, groups=2), kept, torch.randn(1, 6, 2, 2)) is None
