"""Running plans on the bundled sample: what is promised of masks, accuracy, resuming, stopping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import secateur
from secateur.engine.control import Control
from secateur.engine.errors import BadInput
from secateur.engine.events import Event, Finished, Log, MaskChanged, Metric
from secateur.engine.models import open_model
from secateur.engine.plan import Plan
from secateur.engine.project import Project
from secateur.engine.runs.checkpoint import CHECKPOINT, Checkpoint
from secateur.engine.runs.runner import Run
from secateur.engine.runs.runner import run as run_plan


def plan(**more: Any) -> Plan:
    rules = [{"layers": "*", "pattern": "element", "sparsity": 0.9}]
    return Plan.from_json({"rules": rules, **more})


def agp(epochs: int, **more: Any) -> Plan:
    training = {"epochs": epochs, "lr": 0.02}
    return plan(schedule={"kind": "agp", "every": 5}, training=training, **more)


def drain(run: Run) -> list[Event]:
    return list(run.events())


def same_masks(a: Run, b: Run) -> bool:
    return a.masks.layers.keys() == b.masks.layers.keys() and all(
        torch.equal(mask, b.masks.layers[path]) for path, mask in a.masks.layers.items()
    )


@pytest.mark.parametrize(
    "word",
    ["element", "nm:2:4", "block:2x2", "group", "filter", {"kind": "nm", "order": "channel"}],
)
def test_one_shot_reaches_what_was_asked(word: Any) -> None:
    model = open_model("sample:digits-resnet")
    rule = {"layers": "layer*", "pattern": word, "sparsity": 0.5}
    before = {name: tensor.clone() for name, tensor in model.state.items()}
    run = Run(model, Plan.from_json({"rules": [rule]}))
    events = drain(run)
    assert events[0].kind == "started"
    assert [e.kind for e in events if e.terminal] == ["finished"]
    report = run.outcome.report
    assert len(report.layers) == 8
    for layer in report.layers:
        assert layer.requested == 0.5
        assert abs(layer.achieved - 0.5) <= 0.04
        assert layer.zeros == round(layer.achieved * layer.weights)
    assert 0 <= report.accuracy_pruned <= report.accuracy_dense
    for name, tensor in model.state.items():
        assert torch.equal(tensor, before[name]), f"{name} was changed"
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} was changed"


def test_agp_to_90_percent_keeps_accuracy_and_hits_every_layer_to_one_weight() -> None:
    run = Run(open_model("sample:digits-resnet"), agp(20))
    events = drain(run)
    report = run.outcome.report
    # Seeds differ by up to two points; their mean is for a bench to tell.
    assert report.accuracy_pruned >= report.accuracy_dense - 0.025
    for layer in report.layers:
        assert abs(layer.zeros - 0.9 * layer.weights) <= 1
    sparsity = [
        e.values["sparsity"] for e in events if isinstance(e, Metric) and "loss" in e.values
    ]
    assert sparsity == sorted(sparsity)
    changed = [e for e in events if isinstance(e, MaskChanged)]
    assert sum(e.regrown for e in changed) == 0
    assert sum(e.dropped for e in changed) == sum(layer.zeros for layer in report.layers)
    # Pruned weights of the trained model are zero without any mask.
    for path, mask in run.masks.layers.items():
        assert not run.outcome.model.matrix(path)[~mask].any()


def test_momentum_and_weight_decay_do_not_revive_pruned_weights() -> None:
    for optimizer in ("sgd", "adamw"):
        training = {"epochs": 1, "optimizer": optimizer, "weight_decay": 0.1}
        run = Run(open_model("sample:digits-resnet"), plan(training=training))
        drain(run)
        for path, mask in run.masks.layers.items():
            assert not run.outcome.model.matrix(path)[~mask].any()


def test_the_same_plan_gives_the_same_bits() -> None:
    first, second = (Run(open_model("sample:digits-resnet"), agp(2)) for _ in range(2))
    drain(first)
    drain(second)
    assert same_masks(first, second)
    for name, tensor in first.outcome.model.state.items():
        assert torch.equal(tensor, second.outcome.model.state[name])


def test_a_cancelled_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = Run(open_model("sample:digits-resnet"), agp(3))
    drain(whole)
    control = Control()
    part = Run(open_model("sample:digits-resnet"), agp(3), control=control, folder=tmp_path)
    seen: list[Event] = []
    for event in part.events():
        seen.append(event)
        if isinstance(event, MaskChanged) and event.step == 30:
            control.cancel()
    assert seen[-1].kind == "cancelled"
    assert Checkpoint.load(tmp_path / CHECKPOINT).step == 31
    rest = Run(open_model("sample:digits-resnet"), agp(3), folder=tmp_path)
    events = drain(rest)
    assert any(isinstance(e, Log) and "resumed" in e.text for e in events)
    metrics = [e for e in events if isinstance(e, Metric) and "loss" in e.values]
    assert [(e.step, e.past) for e in metrics] == [(23, True), (46, False), (69, False)]
    assert same_masks(rest, whole)
    for name, tensor in whole.outcome.model.state.items():
        assert torch.equal(tensor, rest.outcome.model.state[name]), name


@pytest.mark.parametrize("old", [False, True])
def test_a_resumed_run_counts_the_seconds_before_it_was_stopped(tmp_path: Path, old: bool) -> None:
    control = Control()
    for event in Run(
        open_model("sample:digits-resnet"), agp(2), control=control, folder=tmp_path
    ).events():
        if isinstance(event, MaskChanged):
            control.cancel()
    saved = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert 0 < saved["seconds"] < 1000
    saved["seconds"] = 5000.0
    if old:  # one of a version that kept no seconds
        del saved["seconds"]
    torch.save(saved, tmp_path / CHECKPOINT)
    rest = Run(open_model("sample:digits-resnet"), agp(2), folder=tmp_path)
    drain(rest)
    assert (rest.outcome.report.seconds > 5000) is not old


def test_a_checkpoint_of_another_plan_is_neither_taken_up_nor_lost(tmp_path: Path) -> None:
    control = Control()
    first = Run(open_model("sample:digits-resnet"), agp(2), control=control, folder=tmp_path)
    for event in first.events():
        if isinstance(event, MaskChanged):
            control.cancel()
    saved = (tmp_path / CHECKPOINT).read_bytes()
    for model, wanted in (
        ("sample:digits-resnet", agp(2, seed=1)),
        ("sample:digits-vit", plan(training={"epochs": 1, "lr": 0.01})),
    ):
        with pytest.raises(BadInput, match="of another unfinished run of sample:digits-resnet, at"):
            drain(Run(open_model(model), wanted, folder=tmp_path))
        assert (tmp_path / CHECKPOINT).read_bytes() == saved
    again = drain(Run(open_model("sample:digits-resnet"), agp(2), folder=tmp_path))
    assert any(isinstance(e, Log) and "resumed" in e.text for e in again)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"nonsense", r"\(Weights only.*\); delete it"),
        (b"", r"\(it is empty or cut off\); delete it"),
    ],
)
def test_a_damaged_checkpoint_is_said(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(BadInput, match=words):
        drain(Run(open_model("sample:digits-resnet"), agp(1), folder=tmp_path))


def test_a_schedule_that_ends_with_the_training_has_time_to_recover() -> None:
    long = plan(
        schedule={"kind": "agp", "end": 40, "every": 20}, training={"epochs": 1, "lr": 0.01}
    )
    run = Run(open_model("sample:digits-resnet"), long)
    events = drain(run)
    assert any(isinstance(e, Log) and "goes on" in e.text for e in events)
    assert all(abs(layer.achieved - 0.9) < 0.005 for layer in run.outcome.report.layers)


@pytest.mark.parametrize(
    ("schedule", "epochs", "words"),
    [
        ({"kind": "sparse-training", "end": 100_000}, 2, "end is step 100000, but .* has 46 steps"),
        ({"kind": "agp", "end": 2301}, 1, "end is step 2301, .* set an earlier end, leave it"),
        ({"kind": "agp", "begin": 2300}, 1, "begin is step 2300, .* set an earlier begin"),
        ({"kind": "movement", "begin": 30, "end": 4601}, 2, "end is step 4601"),
        *(
            ({"kind": kind, "end": 4601}, 2, f"{kind}: end is step 4601, but the training has 46")
            for kind in ("admm", "dst", "gates", "set", "rigl")
        ),
        *(
            (kind, 0, f"{kind} prunes while it trains, and 0 epochs train nothing")
            for kind in ("sparse-training", "agp", "iterative")
        ),
    ],
)
def test_steps_that_the_training_does_not_have_are_refused(
    schedule: Any, epochs: int, words: str
) -> None:
    wanted = plan(schedule=schedule, training={"epochs": epochs, "lr": 0.01})
    with pytest.raises(BadInput, match=words):
        Run(open_model("sample:digits-resnet"), wanted)


def test_global_allocation_spends_the_budget_where_it_hurts_least() -> None:
    uniform = Run(open_model("sample:digits-resnet"), plan())
    budget = Run(open_model("sample:digits-resnet"), plan(allocation="global"))
    drain(uniform)
    drain(budget)
    assert budget.outcome.report.sparsity == pytest.approx(0.9, abs=1e-4)
    assert len({round(layer.requested, 3) for layer in budget.outcome.report.layers}) > 5
    kept = [
        sum(float(run.model.matrix(p)[m].square().sum()) for p, m in run.masks.layers.items())
        for run in (uniform, budget)
    ]
    assert kept[1] > kept[0]
    assert all(layer.zeros < layer.weights for layer in budget.outcome.report.layers)


def test_filters_take_their_bias_and_norm_along() -> None:
    rule = {"layers": "layer3.0.conv1", "pattern": "filter", "sparsity": 0.5}
    run = Run(open_model("sample:digits-resnet"), Plan.from_json({"rules": [rule]}))
    drain(run)
    alive = run.masks.layers["layer3.0.conv1"].any(dim=1)
    assert set(run.masks.vectors) == {"layer3.0.bn1.weight", "layer3.0.bn1.bias"}
    assert all(torch.equal(vector, alive) for vector in run.masks.vectors.values())


def test_distillation_learns_from_the_dense_model() -> None:
    run = Run(
        open_model("sample:digits-resnet"),
        plan(training={"epochs": 2, "lr": 0.02, "distil": True}),
    )
    drain(run)
    assert run.outcome.report.accuracy_pruned > 0.5


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([{"layers": "layer9.*", "pattern": "group", "sparsity": 0.5}], "matches"),
        ([{"layers": "layer1.0.con1", "pattern": "group", "sparsity": 0.5}], r"layer1\.0\.conv1"),
        ([{"layers": "bn1", "pattern": "group", "sparsity": 0.5}], "norm"),
        ([{"layers": "*", "pattern": "block:64x4", "sparsity": 0.5}], "conv1 is 16x9"),
    ],
)
def test_rules_that_fit_no_layer_say_so(rules: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Run(open_model("sample:digits-resnet"), Plan.from_json({"rules": rules}))


def test_ends_stay_dense_whatever_the_rules_say() -> None:
    run = Run(open_model("sample:digits-resnet"), plan(ends="dense"))
    drain(run)
    assert len(run.masks.layers) == 8
    assert not {"conv1", "fc"} & set(run.masks.layers)
    rule = {"layers": "fc", "pattern": "element", "sparsity": 0.5}
    with pytest.raises(BadInput, match="ends: dense"):
        Run(open_model("sample:digits-resnet"), Plan.from_json({"rules": [rule], "ends": "dense"}))


def test_misfits_are_skipped_where_the_rule_says_so_and_noted() -> None:
    rule = {"layers": "*", "pattern": "kernel:4", "sparsity": 0.5, "skip_misfits": True}
    run = Run(open_model("sample:digits-resnet"), Plan.from_json({"rules": [rule]}))
    events = drain(run)
    assert not {"fc", "layer2.0.downsample.0"} & set(run.masks.layers)
    (note,) = [note for note in run.outcome.report.notes if "dense" in note]
    assert note.startswith("3 layers stay dense")
    assert "layer2.0.downsample.0 has kernels of 1×1" in note
    assert any(isinstance(e, Log) and e.text == note for e in events)
    with pytest.raises(BadInput, match=r"the plan fits no layer: fc is no convolution"):
        Run(
            open_model("sample:digits-resnet"),
            Plan.from_json({"rules": [{**rule, "layers": "fc"}]}),
        )


def test_one_filter_stays_at_any_sparsity() -> None:
    rule = {"layers": "layer1.0.conv1", "pattern": "filter", "sparsity": 0.99}
    run = Run(open_model("sample:digits-resnet"), Plan.from_json({"rules": [rule]}))
    drain(run)
    assert int(run.masks.layers["layer1.0.conv1"].any(dim=1).sum()) == 1


def test_weights_with_nan_are_refused_by_name() -> None:
    model = open_model("sample:digits-resnet")
    model.state["layer2.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(BadInput, match=r"layer2\.0\.conv1 has 1 weights"):
        drain(Run(model, plan()))


@pytest.mark.parametrize("kind", ["wanda", "taylor", "fisher", "obs"])
def test_calibration_data_with_nan_are_at_fault_and_not_the_weights(kind: str) -> None:
    model = open_model("sample:digits-resnet")
    run = Run(model, Plan.from_json({"rules": [{"layers": "*", "pattern": "nm:2:4",
              "criterion": kind, "skip_misfits": True}]}))  # fmt: skip
    assert run._data is not None
    run._data.train.inputs.fill_(float("nan"))
    with pytest.raises(BadInput, match=r"^sample:digits has inputs that are NaN.* repair"):
        drain(run)


def test_training_data_with_nan_are_at_fault_and_not_the_learning_rate() -> None:
    run = Run(open_model("sample:digits-resnet"), plan(training={"epochs": 1}))
    assert run._data is not None
    run._data.train.inputs[:] = float("inf")
    with pytest.raises(BadInput, match="the training data has inputs that are NaN or infinite"):
        drain(run)


def test_a_run_writes_a_project_in_its_folder_or_says_why_not(tmp_path: Path) -> None:
    model, made = open_model("sample:digits-resnet"), plan()
    folder = tmp_path / "a" / "b"
    events = list(run_plan(model, made, folder=str(folder)))
    assert isinstance(events[-1], Finished)
    assert events[-1].result["project"] == str(folder)
    project = Project.open(folder)
    assert project.plan == made
    assert project.report() == events[-1].result
    assert isinstance(list(run_plan(model, made, folder=folder))[-1], Finished)
    with pytest.raises(BadInput, match="another plan"):
        run_plan(model, plan(seed=1), folder=folder)
    (tmp_path / "file").write_text("mine")
    for other in (tmp_path, tmp_path / "file"):
        with pytest.raises(BadInput, match="name a"):
            run_plan(model, made, folder=other)


def test_an_address_is_a_plan_too_and_the_pruned_network_is_at_hand(tmp_path: Path) -> None:
    model = open_model("sample:digits-resnet")
    plan().save(tmp_path / "plan.yaml")
    by_address = secateur.Run(model, tmp_path / "plan.yaml")
    drain(by_address)
    network = by_address.outcome.pruned()
    for path, mask in by_address.outcome.masks.layers.items():
        weight = network.get_submodule(path).weight.detach()
        assert torch.equal(weight == 0, ~mask.reshape(weight.shape))
        assert not torch.equal(weight, model.state[f"{path}.weight"])
    by_address.outcome.save(str(tmp_path / "p"))
    assert Project.open(tmp_path / "p").load()[1].sparsity == by_address.masks.sparsity
    assert next(secateur.run(model, "preset:shallower")).kind == "started"
    for wrong, words in (
        (lambda: secateur.run(model, plan().to_json()), "Plan.from_json"),
        (lambda: secateur.run("sample:digits-resnet", plan()), "open_model"),
    ):
        with pytest.raises(BadInput, match=words):
            wrong()


def test_the_public_names_are_there_for_completion() -> None:
    assert {"Plan", "Run", "run", "open_model", "load"} <= set(dir(secateur))
    assert all(hasattr(secateur, name) for name in dir(secateur))


def test_a_loss_that_explodes_stops_the_run() -> None:
    with pytest.raises(BadInput, match="learning rate"):
        drain(
            Run(
                open_model("sample:digits-resnet"),
                plan(training={"epochs": 2, "lr": 100.0, "weight_decay": 10.0}),
            )
        )


def test_training_without_data_says_what_to_add() -> None:
    with pytest.raises(BadInput, match="--data"):
        Run(open_model("torchvision:squeezenet1_1"), plan(schedule="agp"))


def test_one_shot_on_a_bare_state_dict(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(
        {"fc.weight": torch.randn(8, 6), "fc.bias": torch.zeros(8)}, tmp_path / "m.safetensors"
    )
    run = Run(open_model(str(tmp_path / "m.safetensors")), plan())
    drain(run)
    assert run.outcome.report.accuracy_dense is None
    assert run.outcome.report.layers[0].zeros == round(0.9 * 48)
