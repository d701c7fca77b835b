"""The plans that come along: each says whom it is for, is a plan, and runs on any model it fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from secateur.engine.cli import main
from secateur.engine.errors import BadInput
from secateur.engine.models import open_model
from secateur.engine.plan import Plan
from secateur.engine.plan.presets import load_plan, presets
from secateur.engine.runs.runner import Run
from secateur.engine.schedules.iterative import Iterative

SAMPLES = ("sample:digits-resnet", "sample:digits-vit")
FITS_NOWHERE = {("heads", "sample:digits-resnet")}


def short(plan: Plan) -> Plan:
    """The plan with one epoch of training in large batches, if it has any."""
    if plan.training is None:
        return plan
    schedule = plan.schedule
    if isinstance(schedule, Iterative) and schedule.rewind_to:
        schedule = replace(schedule, rewind_to=1)
    return replace(plan, schedule=schedule, training=replace(plan.training, epochs=1, batch=256))


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_a_preset_says_whom_it_is_for_and_reads_back(preset, tmp_path: Path) -> None:
    assert 20 < len(preset.summary) <= 120
    assert preset.summary.endswith(".")
    plan = preset.load()
    assert plan.model is None
    plan.save(tmp_path / "copy.yaml")
    assert Plan.load(tmp_path / "copy.yaml") == plan == load_plan(f"preset:{preset.name}")


@pytest.mark.parametrize("address", SAMPLES)
@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_a_preset_runs_to_what_it_asks_for(preset, address: str) -> None:
    plan = short(preset.load())
    if (preset.name, address) in FITS_NOWHERE:
        with pytest.raises(BadInput, match="the plan fits no layer"):
            Run(open_model(address), plan)
        return
    run = Run(open_model(address), plan)
    list(run.events())
    report = run.outcome.report
    (rule,) = plan.rules
    # A layer that goes whole is taken where that is nearer to what was asked than leaving it.
    step = max(row.weights for row in report.layers) / sum(row.weights for row in report.layers)
    slack = step / 2 if rule.pattern.whole else 0.02
    assert report.sparsity == pytest.approx(rule.sparsity, abs=slack + 1e-6)
    for path, mask in run.masks.layers.items():
        assert plan.ends == "prune" or path not in (
            run.model.info.prunable[0].path,
            run.model.info.prunable[-1].path,
        )
        if not rule.pattern.whole:
            assert mask.any(), path
            assert float(mask.float().mean()) >= getattr(plan.allocation, "floor", 0)
    for row in report.layers:
        # Half of one of the 16 columns of the smallest layer, half of one of its 4 heads.
        assert row.achieved == pytest.approx(row.requested, abs=1 / 32)


@pytest.mark.parametrize("network", ["mlp:64-256-256-256-10", "convnet:1x8x8-16-32-10"])
def test_a_fresh_network_has_a_tenth_of_its_weights_as_the_preset_says(network: str) -> None:
    preset = next(preset for preset in presets() if preset.name == "csr-from-scratch")
    assert "90 % of the layers' weights are never there" in preset.summary
    model = open_model(f"new:{network}")
    run = Run(model, short(preset.load()))
    list(run.events())
    assert set(run.masks.layers) == {layer.path for layer in model.info.prunable}
    assert run.outcome.report.sparsity == pytest.approx(0.9, abs=0.001)


@pytest.mark.parametrize("name", ["shallower", "tensor-cores", "one-shot-safe"])
def test_presets_at_once_need_no_data(name: str) -> None:
    model = open_model("torchvision:mobilenet_v3_small")
    assert model.info.data is None
    run = Run(model, load_plan(f"preset:{name}"))
    list(run.events())
    assert run.outcome.report.sparsity > 0


def test_whole_layers_leave_branches_that_add_nothing() -> None:
    model = open_model("sample:digits-vit")
    run = Run(model, load_plan("preset:shallower"))
    list(run.events())
    gone = [path for path, mask in run.masks.layers.items() if not mask.any()]
    assert gone
    assert all(mask.all() for path, mask in run.masks.layers.items() if path not in gone)
    for path in gone:
        assert not run.masks.vectors[f"{path}.bias"].any()
    # The lowest mean scores have gone.
    means = {path: float(model.matrix(path).square().mean()) for path in run.masks.layers}
    assert max(means[path] for path in gone) <= min(
        mean for path, mean in means.items() if path not in gone
    )


def test_whole_layers_go_step_by_step_along_a_schedule() -> None:
    rule = {"layers": "*", "pattern": "layer", "sparsity": 0.6, "skip_misfits": True}
    plan = Plan.from_json(
        {
            "rules": [rule],
            "schedule": {"kind": "agp", "every": 4},
            "training": {"epochs": 2, "batch": 128, "lr": 0.01},
        }
    )
    run = Run(open_model("sample:digits-vit"), plan)
    counts = []
    for event in run.events():
        if event.kind == "masks":
            counts.append(sum(share == 1.0 for share in event.sparsity.values()))
    assert counts == sorted(counts)
    assert len(set(counts)) >= 3
    assert run.outcome.report.sparsity == pytest.approx(0.6, abs=0.08)
    for row in run.outcome.report.layers:
        assert row.requested == row.achieved
        assert row.achieved in (0.0, 1.0)


def test_one_layer_may_go_while_others_end_branches_too() -> None:
    rule = {"layers": "blocks.1.linear2", "pattern": "layer", "sparsity": 0.9}
    run = Run(open_model("sample:digits-vit"), Plan.from_json({"rules": [rule]}))
    list(run.events())
    assert not run.masks.layers["blocks.1.linear2"].any()


def test_heads_go_whole_and_the_notes_say_what_stays_dense() -> None:
    run = Run(open_model("sample:digits-vit"), load_plan("preset:heads"))
    list(run.events())
    for mask in run.masks.layers.values():
        heads = mask.view(48, 4, 12).float().mean(dim=(0, 2))
        assert torch.equal(heads, heads.round())
    (note,) = [n for n in run.outcome.report.notes if "stay dense" in n]
    assert note.startswith("14 layers stay dense")
    assert "patches reads no attention heads" in note


def test_names_are_listed_by_the_command_line(capsys, tmp_path: Path) -> None:
    for word, said in (
        ("?", "name one as preset:NAME"),
        ("smal-file", "'smal-file'; did you mean 'small-file'? The presets are "),
        ("xyzzy", "'xyzzy'; the presets are "),
    ):
        out = str(tmp_path / "out")
        assert (
            main(["prune", "sample:digits-resnet", "--plan", f"preset:{word}", "--out", out]) == 2
        )
        line = capsys.readouterr().err
        assert said in line
        assert line.count("\n") == 1
        assert all(preset.name in line for preset in presets())


def test_the_command_line_prunes_by_a_preset(tmp_path: Path, capfd) -> None:
    out = tmp_path / "out"
    plan = "preset:one-shot-safe"
    assert main(["prune", "sample:digits-resnet", "--plan", plan, "--out", str(out)]) == 0
    assert "erk" in (out / "plan.yaml").read_text()
    assert "50.0 %" in capfd.readouterr().out


def test_where_no_layer_goes_the_notes_say_so() -> None:
    rule = {"layers": "*", "pattern": "layer", "sparsity": 0.001, "skip_misfits": True}
    run = Run(open_model("sample:digits-resnet"), Plan.from_json({"rules": [rule]}))
    list(run.events())
    assert run.outcome.report.sparsity == 0
    assert any("no layer went" in note for note in run.outcome.report.notes)
