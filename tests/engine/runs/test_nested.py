"""Nested levels: masks inside each other, one file with all of them, and switching in place."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import secateur
from secateur.engine.control import Control
from secateur.engine.errors import BadInput
from secateur.engine.export import export
from secateur.engine.masks import Masks
from secateur.engine.models import open_model
from secateur.engine.models.archive import read_state
from secateur.engine.nested import Levels
from secateur.engine.plan import Plan
from secateur.engine.project import Project, save_run
from secateur.engine.report.html import render
from secateur.engine.runs.checkpoint import CHECKPOINT
from secateur.engine.runs.runner import Run
from secateur.engine.schedules import SCHEDULES

LEVELS = [0.3, 0.5, 0.7]


def plan(pattern: Any = "element", levels: Any = LEVELS, layers: str = "*", **more: Any) -> Plan:
    rule = {"layers": layers, "pattern": pattern, "sparsity": 0.5, "skip_misfits": True}
    return Plan.from_json(
        {"rules": [rule], "schedule": {"kind": "nested", "levels": levels}, **more}
    )


def finished(plan: Plan, address: str = "sample:digits-resnet") -> Run:
    run = Run(open_model(address), plan)
    assert list(run.events())[-1].kind == "finished"
    return run


@pytest.fixture(scope="module")
def elements() -> Run:
    return finished(plan(allocation="erk"))


@pytest.fixture(scope="module")
def filters() -> Run:
    return finished(plan("filter", layers="layer*"))


def save(run: Run, folder: Path) -> None:
    outcome = run.outcome
    report = outcome.report.to_json()
    save_run(
        folder, outcome.model, outcome.trained, outcome.masks, report, run.plan, outcome.levels
    )


def written(run: Run, path: Path) -> Any:
    outcome = run.outcome
    return export(outcome.model, outcome.masks, "nested", path, outcome.levels)


# ----- masks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "address", "layers"),
    [
        ("element", "sample:digits-resnet", "*"),
        ("vector:8", "sample:digits-resnet", "layer*"),
        ("block:4x4", "sample:digits-resnet", "layer*"),
        ("group", "sample:digits-resnet", "layer*"),
        ("column", "sample:digits-vit", "*"),
        ("row", "sample:digits-vit", "blocks*linear1"),
        ("filter", "sample:digits-resnet", "layer*"),
        ("channel", "sample:digits-resnet", "layer*"),
        ("kernel:4", "sample:digits-resnet", "*conv*"),
        ("head", "sample:digits-vit", "*"),
    ],
)
def test_levels_of_a_run_are_nested_and_reach_what_was_asked(
    pattern: str, address: str, layers: str
) -> None:
    run = finished(plan(pattern, layers=layers), address)
    levels = run.outcome.levels
    assert levels.sparsities == tuple(LEVELS)
    loosest = Run(
        open_model(address),
        Plan.from_json(
            {
                "rules": [
                    {"layers": layers, "pattern": pattern, "sparsity": 0.3, "skip_misfits": True}
                ]
            }
        ),
    )
    list(loosest.events())
    assert all(torch.equal(m, loosest.masks.layers[p]) for p, m in run.masks.layers.items())
    for looser, stricter in pairwise(levels.masks):
        assert looser.layers.keys() == stricter.layers.keys()
        assert looser.vectors.keys() == stricter.vectors.keys()
        for path, mask in stricter.layers.items():
            assert not bool((mask & ~looser.layers[path]).any()), path
        for name, mask in stricter.vectors.items():
            assert not bool((mask & ~looser.vectors[name]).any()), name
    for asked, report, masks in zip(LEVELS, run.outcome.report.levels, levels.masks, strict=True):
        assert report.sparsity == asked
        assert report.achieved == masks.sparsity
        for path, (requested, achieved) in report.layers.items():
            assert requested == asked
            gemm = run.model.info.layer(path).gemm
            unit = {"head": 1 / 4, "vector:8": 1 / 8}.get(pattern)
            if unit is None:
                rows, columns = gemm.shape
                unit = {
                    "element": 1 / (rows * columns),
                    "block:4x4": 16 / (rows * columns),
                    "group": 1 / columns,
                    "column": 1 / columns,
                    "row": 1 / rows,
                    "filter": 1 / rows,
                    "channel": 1 / gemm.channels,
                    "kernel:4": 5 / (rows * columns),
                }[pattern]
            assert abs(achieved - requested) <= unit / 2 + 1e-6, path


def test_the_report_has_every_level_and_weights_stay_as_loaded(elements: Run) -> None:
    report = elements.outcome.report
    assert not elements.outcome.trained
    fresh = open_model("sample:digits-resnet")
    assert all(torch.equal(t, fresh.state[name]) for name, t in elements.model.state.items())
    first = report.levels[0]
    assert (first.nonzeros, first.accuracy) == (report.nonzeros, report.accuracy_pruned)
    assert first.bytes == report.compressed_bytes
    for looser, stricter in pairwise(report.levels):
        assert looser.nonzeros > stricter.nonzeros
        assert looser.bytes > stricter.bytes
        assert looser.accuracy >= stricter.accuracy
    data = json.loads(json.dumps(report.to_json()))
    assert [level["sparsity"] for level in data["levels"]] == LEVELS
    assert data["levels"][1]["layers"][0].keys() == {"path", "requested", "achieved"}
    assert any("in place of the rules' sparsities" in note for note in data["notes"])
    page = render(data)
    assert "Nested levels" in page
    for level in report.levels:
        assert f"{level.nonzeros:,}" in page
    assert f"{100 * report.shared.break_even:.1f} %" in page


def test_layers_with_sparsity_0_stay_dense() -> None:
    rules = [
        {"layers": "conv1", "pattern": "element", "sparsity": 0.0},
        {"layers": "*", "pattern": "element", "sparsity": 0.9},
    ]
    made = Plan.from_json({"rules": rules, "schedule": "nested"})
    masks = finished(made).outcome.levels.masks
    assert all("conv1" not in level.layers for level in masks)


def test_shares_of_an_allocation_rise_with_the_levels() -> None:
    for allocation in ("erk", "global", "lamp"):
        report = finished(plan("group", allocation=allocation, layers="layer*")).outcome.report
        for looser, stricter in pairwise(report.levels):
            for path, (requested, _) in stricter.layers.items():
                assert requested >= looser.layers[path][0]
        for level in report.levels:
            assert level.achieved == pytest.approx(level.sparsity, abs=0.01)


def test_training_is_of_the_loosest_level_and_resumes_to_the_same_levels(tmp_path: Path) -> None:
    made = plan("kernel:4", layers="*conv*", training={"epochs": 2, "batch": 128, "lr": 0.02})
    whole = finished(made)
    assert whole.outcome.trained
    control = Control()
    stopped = Run(open_model("sample:digits-resnet"), made, control=control, folder=tmp_path)
    for event in stopped.events():
        if event.kind == "metric" and event.step:
            control.cancel()
    assert stopped.outcome is None
    assert (tmp_path / CHECKPOINT).exists()
    resumed = Run(open_model("sample:digits-resnet"), made, folder=tmp_path)
    list(resumed.events())
    for mine, theirs in zip(whole.outcome.levels.masks, resumed.outcome.levels.masks, strict=True):
        assert all(torch.equal(mask, theirs.layers[path]) for path, mask in mine.layers.items())
    for looser, stricter in pairwise(whole.outcome.levels.masks):
        for path, mask in stricter.layers.items():
            assert not bool((mask & ~looser.layers[path]).any()), path
    assert any("only the loosest is trained" in note for note in whole.outcome.report.notes)


# ----- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ([0.5, 0.5], "must rise, and 0.5 stands before 0.5"),
        ([0.9, 0.5], "must rise, and 0.9 stands before 0.5"),
        ([0.5], "at least two sparsities"),
        ([], "at least two sparsities"),
        ([0, 0.5], "above 0 and below 1"),
        ([0.5, 1], "above 0 and below 1"),
        ([0.5, 1.5], "at most 1"),
        ([0.5, "x"], "each of levels must be a number, not 'x'"),
        (0.5, "must be numbers such as 0.5, 0.75, not 0.5"),
        ("half", "must be a number, not 'half'"),
        ([0.5, float("nan")], "levels must"),
        ([i / 100 for i in range(1, 90)], "at most 64"),
    ],
)
def test_levels_that_are_none_are_refused(levels: Any, words: str) -> None:
    with pytest.raises(BadInput, match="levels") as caught:
        SCHEDULES.parse({"kind": "nested", "levels": levels})
    assert words in str(caught.value)


def test_levels_read_back_equal_and_have_a_default(tmp_path: Path) -> None:
    made = plan(levels="0.25, 0.5")
    assert made.schedule.levels == (0.25, 0.5)
    assert hash(made.schedule) == hash(SCHEDULES.parse({"kind": "nested", "levels": [0.25, 0.5]}))
    for name in ("p.yaml", "p.json"):
        made.save(tmp_path / name)
        assert Plan.load(tmp_path / name) == made
    assert SCHEDULES.parse("nested").to_plan() == "nested"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rules": [{"layers": "fc", "pattern": "nm:2:4"}]}, "vector, block or element would do"),
        (
            {"rules": [{"layers": "layer1.0.conv2", "pattern": "layer", "sparsity": 0.5}]},
            "as a whole",
        ),
        ({"allocation": "flops"}, "a target of its own"),
        ({"allocation": "bytes"}, "a target of its own"),
        ({"allocation": {"kind": "erk", "floor": 0.4}}, "lower the floor or the level"),
        ({"take_zeros": True}, "leave take_zeros out"),
        (
            {
                "rules": [
                    {"layers": "fc", "pattern": "element", "criterion": "obs", "sparsity": 0.5}
                ]
            },
            "could not share them",
        ),
    ],
)
def test_what_cannot_be_nested_is_refused_before_anything_is_done(
    changes: dict[str, Any], words: str
) -> None:
    rules = [{"layers": "*", "pattern": "element", "sparsity": 0.5}]
    schedule = {"kind": "nested", "levels": LEVELS}
    made = Plan.from_json({"rules": rules, "schedule": schedule, **changes})
    with pytest.raises(BadInput) as caught:
        Run(open_model("sample:digits-resnet"), made)
    assert words in str(caught.value)


# ----- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["elements", "filters"])
def test_one_file_gives_every_level_back(run: str, request: Any, tmp_path: Path) -> None:
    done: Run = request.getfixturevalue(run)
    path = tmp_path / "n.safetensors"
    exported = written(done, path)
    assert exported.equal
    assert exported.bytes == path.stat().st_size == exported.shared.total
    for sparsity, masks in zip(LEVELS, done.outcome.levels.masks, strict=True):
        state = masks.committed(done.outcome.model)
        module = secateur.load(path, level=sparsity)
        found = module.state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    loosest = secateur.load(path).state_dict()
    assert all(
        torch.equal(loosest[name], tensor)
        for name, tensor in done.outcome.masks.committed(done.outcome.model).items()
    )
    with pytest.raises(BadInput, match=r"no level 0\.9; its levels are 0\.3, 0\.5, 0\.7"):
        secateur.load(path, level=0.9)


def test_bytes_are_those_in_the_file_and_break_even_follows_from_them(
    elements: Run, tmp_path: Path
) -> None:
    from safetensors import safe_open

    path = tmp_path / "n.safetensors"
    shared = written(elements, path).shared
    found = {"values": 0, "bits": 0, "levels": 0}
    pruned = {elements.model.info.layer(p).weight for p in elements.masks.layers}
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
            name, _, part = key.rpartition(".")
            if name in pruned:
                found[part] += file.get_tensor(key).nbytes
    assert (shared.values, shared.positions, shared.index) == tuple(found.values())
    weights = sum(mask.numel() for mask in elements.masks.layers.values())
    kept = sum(int(mask.sum()) for mask in elements.masks.layers.values())
    assert (shared.weights, shared.kept, shared.dense) == (weights, kept, 4 * weights)
    assert shared.values == 4 * kept
    assert shared.total < sum(shared.separate)
    share = shared.break_even
    saved = share * shared.dense
    cost = shared.positions + (1 - share) * shared.weights * shared.index / shared.kept
    assert saved == pytest.approx(cost, rel=1e-9)
    separate = [
        export(elements.outcome.model, masks, "compressed", tmp_path / "c.safetensors").bytes
        for masks in elements.outcome.levels.masks
    ]
    assert list(shared.separate) == separate


def test_break_even_is_what_the_bits_say() -> None:
    # A bit for each weight, one or two for each kept one by the number of levels, 32 for its value.
    for levels, expected in (([0.2, 0.6], 2 / 33), (LEVELS, 3 / 34)):
        report = finished(plan(levels=levels, layers="layer3*")).outcome.report
        assert report.shared.break_even == pytest.approx(expected, rel=0.001)


def test_the_report_s_bytes_are_those_of_the_export(elements: Run, tmp_path: Path) -> None:
    assert written(elements, tmp_path / "n.safetensors").shared == elements.outcome.report.shared


def test_a_whole_row_s_level_is_stored_once(filters: Run, tmp_path: Path) -> None:
    shared = written(filters, tmp_path / "n.safetensors").shared
    rows = sum(filters.model.info.layer(path).gemm.shape[0] for path in filters.masks.layers)
    vectors = sum(mask.numel() for mask in filters.masks.vectors.values())
    layers = len(filters.masks.layers) + len(filters.masks.vectors)
    assert shared.index <= (rows + vectors) * 2 / 8 + layers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tied_and_odd_weights_come_back_at_every_level(dtype, tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=24, intermediate_size=48, num_attention_heads=2, vocab_size=60,
        num_hidden_layers=1, max_position_embeddings=32,
    )  # fmt: skip
    BertForMaskedLM(config).to(dtype).save_pretrained(tmp_path / "bert")
    run = finished(plan(), str(tmp_path / "bert"))
    path = tmp_path / "n.safetensors"
    assert written(run, path).equal
    for sparsity, masks in zip(LEVELS, run.outcome.levels.masks, strict=True):
        state = masks.committed(run.outcome.model)
        found = read_state(path, sparsity)
        assert found.keys() == state.keys()
        for name, tensor in state.items():
            assert found[name].dtype == dtype or not tensor.is_floating_point()
            assert torch.equal(found[name], tensor), (name, sparsity)
    nested = secateur.load_nested(path)
    nested.switch(0.7)
    state = run.outcome.levels.masks[-1].committed(run.outcome.model)
    for name, parameter in nested.module.named_parameters(remove_duplicate=False):
        assert torch.equal(parameter, state[name]), name


def test_files_of_one_sparsity_have_no_levels(elements: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    export(elements.outcome.model, elements.outcome.masks, "compressed", path)
    with pytest.raises(BadInput, match="holds one sparsity and no levels"):
        secateur.load(path, level=0.5)
    with pytest.raises(BadInput, match="schedule: nested first"):
        export(elements.outcome.model, elements.outcome.masks, "nested", path)
    assert secateur.load_nested(path).levels == ()


def test_damaged_nested_files_are_bad_input(elements: Run, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    path, broken = tmp_path / "n.safetensors", tmp_path / "broken.safetensors"
    written(elements, path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    about = json.loads(metadata["secateur"])
    cut = {**tensors, "fc.weight.levels": tensors["fc.weight.levels"][:-1].clone()}
    full = {**tensors, "fc.weight.levels": torch.full_like(tensors["fc.weight.levels"], 255)}
    gone = {key: value for key, value in tensors.items() if key != "fc.weight.levels"}
    other = json.loads(metadata["secateur"])
    other["tensors"]["fc.weight"]["levels"]["along"] = "depth"
    for parts, text in (
        (cut, about), (full, about), (gone, about), (tensors, other),
        (tensors, {**about, "levels": ["x"]}), (tensors, {**about, "levels": 3}),
    ):  # fmt: skip
        save_file(parts, broken, metadata={**metadata, "secateur": json.dumps(text)})
        with pytest.raises(BadInput, match="damaged"):
            secateur.load(broken, level=0.5)


# ----- projects ----------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["elements", "filters"])
def test_a_project_keeps_its_levels_in_few_bits(run: str, request: Any, tmp_path: Path) -> None:
    done: Run = request.getfixturevalue(run)
    save(done, tmp_path / "p")
    project = Project.open(tmp_path / "p")
    _, masks = project.load()
    levels = project.levels(masks)
    assert levels.sparsities == tuple(LEVELS)
    for level, mine, theirs in zip(LEVELS, done.outcome.levels.masks, levels.masks, strict=True):
        _, at = project.load(level=level)
        for found in (theirs, at):
            assert found.layers.keys() == mine.layers.keys()
            assert found.vectors.keys() == mine.vectors.keys()
            assert all(torch.equal(found.layers[p], m) for p, m in mine.layers.items())
            assert all(torch.equal(found.vectors[n], m) for n, m in mine.vectors.items())
    kept = sum(int(mask.sum()) for mask in masks.layers.values())
    assert (tmp_path / "p" / "levels.safetensors").stat().st_size < kept * 2 / 8 + 6000
    with pytest.raises(BadInput, match=r"no level 0\.6; its levels are"):
        project.load(level=0.6)
    (tmp_path / "p" / "levels.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="levels cannot be read"):
        project.levels(masks)


def test_a_project_without_levels_loads_and_old_levels_go(elements: Run, tmp_path: Path) -> None:
    save(elements, tmp_path)
    outcome = elements.outcome
    report = outcome.report.to_json()
    save_run(tmp_path, outcome.model, False, outcome.masks, report, elements.plan)
    project = Project.open(tmp_path)
    _, masks = project.load()
    assert project.levels(masks) is None
    with pytest.raises(BadInput, match="no levels"):
        project.load(level=0.5)


def test_saved_levels_are_the_same_bytes_every_time(elements: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        elements.outcome.levels.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again = Levels.load(tmp_path / "a", elements.outcome.masks)
    assert isinstance(again.masks[0], Masks)


# ----- switching ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(elements: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nested") / "n.safetensors"
    written(elements, path)
    return path


@pytest.fixture
def nested(file: Path) -> Any:
    return secateur.load_nested(file)


@settings(max_examples=20)
@given(order=st.lists(st.sampled_from(LEVELS), min_size=1, max_size=8))
def test_any_way_to_a_level_ends_at_its_weights(
    elements: Run, file: Path, order: list[float]
) -> None:
    nested = secateur.load_nested(file)
    assert nested.level == LEVELS[0]
    for level in order:
        nested.switch(level)
    assert nested.level == order[-1]
    masks = elements.outcome.levels.masks[LEVELS.index(order[-1])]
    state = masks.committed(elements.outcome.model)
    found = nested.module.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_a_switch_writes_the_difference_and_nothing_else(elements: Run, nested: Any) -> None:
    model, levels = elements.outcome.model, elements.outcome.levels
    parameters = dict(nested.module.named_parameters())
    places = {name: parameter.data_ptr() for name, parameter in parameters.items()}
    for start, end in ((0, 2), (2, 1), (1, 2), (2, 0), (0, 1), (1, 0)):
        nested.switch(LEVELS[start])
        before = levels.masks[start].by_parameter(model.info)
        after = levels.masks[end].by_parameter(model.info)
        state = levels.masks[end].committed(model)
        differs = {name: before[name] != after[name] for name in before}
        true = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            # What is written shows, as every other weight holds a number that no level has.
            outside = ~differs.get(name, torch.zeros_like(parameter, dtype=torch.bool))
            parameter.data[outside] = 12345.0
        count = nested.switch(LEVELS[end])
        assert count == 4 * sum(int(flags.sum()) for flags in differs.values())
        for name, parameter in parameters.items():
            assert parameter.data_ptr() == places[name]
            changed = differs.get(name, torch.zeros_like(parameter, dtype=torch.bool))
            assert bool((parameter.detach()[~changed] == 12345.0).all()), name
            assert torch.equal(parameter.detach()[changed], state[name][changed]), name
            parameter.data[~changed] = true[name][~changed]
    assert nested.switch(nested.level) == 0


def test_parameters_without_a_level_are_not_even_touched(nested: Any) -> None:
    versions = {name: p._version for name, p in nested.module.named_parameters()}
    nested.switch(0.7)
    touched = {n for n, p in nested.module.named_parameters() if p._version != versions[n]}
    assert touched
    assert all(name.endswith("weight") and "bn" not in name for name in touched)


def test_a_module_may_be_cast_and_laid_out_otherwise(elements: Run, nested: Any) -> None:
    nested.module.to(memory_format=torch.channels_last).double()
    nested.switch(0.7)
    nested.switch(0.5)
    state = elements.outcome.levels.masks[1].committed(elements.outcome.model)
    for name, parameter in nested.module.named_parameters():
        assert torch.equal(parameter.detach(), state[name].double()), name


def test_a_level_that_is_none_is_named(nested: Any) -> None:
    with pytest.raises(BadInput, match=r"no level 0\.95; its levels are 0\.3, 0\.5, 0\.7"):
        nested.switch(0.95)
    assert nested.level == 0.3
