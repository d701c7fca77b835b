"""Zeros that a model brings: taken over, counted, kept through training and over a cancel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from secateur.engine.control import Control
from secateur.engine.errors import BadInput
from secateur.engine.events import Event, Log, MaskChanged
from secateur.engine.models import open_model
from secateur.engine.models.model import Model
from secateur.engine.plan import Plan
from secateur.engine.runs.runner import Run

THINNED = ("layer1.0.conv1", "layer2.0.conv2", "fc")


def thinned(share: float = 0.3) -> Model:
    """The sample with `share` of the weights of three layers set to zero, anywhere."""
    model = open_model("sample:digits-resnet")
    generator = torch.Generator().manual_seed(5)
    for path in THINNED:
        weight = model.weight(path)
        weight[torch.rand(weight.shape, generator=generator) < share] = 0
    return model


def plan(*rules: dict[str, Any], **more: Any) -> Plan:
    return Plan.from_json({"rules": list(rules), "take_zeros": True, **more})


def rows(run: Run) -> dict[str, Any]:
    return {layer.path: layer for layer in run.outcome.report.layers}


def own(model: Model, path: str) -> float:
    return float((model.matrix(path) == 0).float().mean())


def test_layers_without_a_rule_get_a_mask_of_their_zeros() -> None:
    model = thinned()
    run = Run(model, plan())
    events = list(run.events())
    assert set(rows(run)) == set(run.masks.layers) == set(THINNED)
    for path, row in rows(run).items():
        assert torch.equal(run.masks.layers[path], model.matrix(path) != 0)
        assert row.pattern == "zeros"
        assert row.requested == row.achieved == pytest.approx(own(model, path))
    zeros = sum(row.zeros for row in rows(run).values())
    said = [e.text for e in events if isinstance(e, Log)]
    assert any(f"{zeros:,} zeros taken over in 3 layers" in text for text in said)
    assert run.outcome.report.accuracy_pruned == run.outcome.report.accuracy_dense


@pytest.mark.parametrize("criterion", ["magnitude", "random", "movement"])
@pytest.mark.parametrize(
    ("word", "unit"), [("element", 1), ("filter", 1 / 16), ("group", 1 / 144), ("vector:8", 1 / 8)]
)
@pytest.mark.parametrize("asked", [0.1, 0.5])
def test_the_share_of_a_rule_counts_them_in(
    criterion: str, word: str, unit: float, asked: float
) -> None:
    model, path = thinned(), "layer1.0.conv1"
    rule = {"layers": path, "pattern": word, "sparsity": asked, "criterion": criterion}
    run = Run(model, plan(rule))
    list(run.events())
    row = rows(run)[path]
    assert row.requested == pytest.approx(max(asked, own(model, path)))
    assert row.achieved == pytest.approx(row.requested, abs=max(unit, 1 / row.weights))
    assert not run.masks.layers[path][model.matrix(path) == 0].any()


def test_nm_and_zeros_both_hold() -> None:
    model, path = thinned(), "layer1.0.conv1"
    run = Run(model, plan({"layers": path, "pattern": "nm:2:4"}))
    list(run.events())
    mask, row = run.masks.layers[path], rows(run)[path]
    assert not mask[model.matrix(path) == 0].any()
    assert int(mask.view(-1, 4).sum(dim=1).max()) == 2
    assert row.requested == row.achieved >= 0.5


def trained(**more: Any) -> Plan:
    rule = {"layers": "layer2.*", "pattern": "element", "sparsity": 0.8}
    schedule = {"kind": "agp", "every": 5}
    training = {"epochs": 2, "lr": 0.02, "weight_decay": 0.01}
    return plan(rule, schedule=schedule, training=training, **more)


def test_training_keeps_them_zero_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = Run(thinned(), trained())
    list(whole.events())
    for path in THINNED:
        zeros = thinned().matrix(path) == 0
        assert not whole.outcome.model.matrix(path)[zeros].any()
    assert whole.outcome.model.matrix("fc").ne(thinned().matrix("fc")).any(), "it was trained"
    assert rows(whole)["layer2.0.conv2"].achieved == pytest.approx(0.8, abs=1e-3)
    assert rows(whole)["fc"].pattern == "zeros"
    control = Control()
    part = Run(thinned(), trained(), control=control, folder=tmp_path)
    for event in part.events():
        if isinstance(event, MaskChanged) and event.step == 15:
            control.cancel()
    rest = Run(thinned(), trained(), folder=tmp_path)
    events: list[Event] = list(rest.events())
    assert any(isinstance(e, Log) and "resumed" in e.text for e in events)
    for name, tensor in whole.outcome.model.state.items():
        assert torch.equal(tensor, rest.outcome.model.state[name]), name


def test_training_without_any_rule_holds_the_zeros() -> None:
    run = Run(thinned(), plan(training={"epochs": 1, "lr": 0.02}))
    list(run.events())
    for path in THINNED:
        assert not run.outcome.model.matrix(path)[thinned().matrix(path) == 0].any()


def test_a_bare_state_dict_keeps_its_zeros(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    weight = torch.ones(8, 6)
    weight[:, 2] = 0
    save_file({"fc.weight": weight, "fc.bias": torch.zeros(8)}, tmp_path / "m.safetensors")
    run = Run(open_model(str(tmp_path / "m.safetensors")), plan())
    list(run.events())
    assert torch.equal(run.masks.layers["fc"], weight != 0)


def test_no_zeros_and_no_rule_is_no_plan() -> None:
    with pytest.raises(BadInput, match="no zeros to take over"):
        Run(open_model("sample:digits-resnet"), plan())


def test_obs_would_fill_zeros_and_is_refused() -> None:
    rule = {"layers": "fc", "pattern": "element", "sparsity": 0.5, "criterion": "obs"}
    with pytest.raises(BadInput, match="fc has zeros to take over"):
        Run(thinned(), plan(rule))


def test_without_the_key_zeros_are_weights_like_any_other() -> None:
    rule = {"layers": "conv1", "pattern": "element", "sparsity": 0.5}
    run = Run(thinned(), Plan.from_json({"rules": [rule]}))
    list(run.events())
    assert set(run.masks.layers) == {"conv1"}
