"""Sparse training from scratch: nothing dense in memory, as sparse as asked, and it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from secateur.engine.control import Control
from secateur.engine.dependencies import trace
from secateur.engine.errors import BadInput
from secateur.engine.events import Event, Log, MaskChanged, Metric, Started
from secateur.engine.models import open_model
from secateur.engine.plan import Plan
from secateur.engine.runs.checkpoint import CHECKPOINT
from secateur.engine.runs.dead import Neurons
from secateur.engine.runs.runner import Run
from secateur.engine.schedules import SCHEDULES
from secateur.kernels.formats import CSR
from secateur.kernels.modules.evolving import evolving

SMALL = "new:mlp:64-40-30-10"


def plan(
    schedule: dict[str, Any] | None = None,
    sparsity: float = 0.9,
    layers: str = "*",
    **training: Any,
) -> Plan:
    return Plan.from_json(
        {
            "rules": [{"layers": layers, "pattern": "element", "sparsity": sparsity}],
            "schedule": {"kind": "sparse-training", **(schedule or {})},
            "training": {"epochs": 2, "lr": 0.1, **training},
        }
    )


def run(wanted: Plan, address: str = SMALL, **more: Any) -> tuple[Run, list[Event]]:
    made = Run(open_model(address), wanted, **more)
    return made, list(made.events())


class Storages(TorchDispatchMode):
    """Notes how many bytes lie behind every tensor that an operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.namespace != "secateur"  # nothing hides what it allocates
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                parts = [tensor] if tensor.layout == torch.strided else [tensor.values()]
                self.sizes += [part.untyped_storage().nbytes() for part in parts]
        return made


@pytest.mark.parametrize(
    ("growth", "optimizer"),
    [("gradient", "sgd"), ("full", "sgd"), ("random", "sgd"), ("gradient", "adamw")],
)
def test_nothing_of_the_size_of_a_layer_is_allocated(growth: str, optimizer: str) -> None:
    """Not a byte an entry: no weight, gradient or moment, and no mask either."""
    side = 1536
    wanted = plan({"every": 5, "growth": growth}, 0.95, "fc2", epochs=1, optimizer=optimizer)
    events = Run(open_model(f"new:mlp:64-{side}-{side}-10"), wanted).events()
    while not isinstance(next(events), MaskChanged):
        pass
    changes = 0
    with Storages() as storages:
        for event in events:
            changes += isinstance(event, MaskChanged)
            if isinstance(event, Metric):
                break
    assert changes == 4
    assert 1 << 19 < max(storages.sizes) < side * side


@pytest.mark.parametrize("growth", ["gradient", "full", "random", "none"])
def test_it_is_as_sparse_as_asked_all_along_and_every_change_is_even(growth: str) -> None:
    made, events = run(plan({"every": 7, "growth": growth}))
    for row in made.outcome.report.layers:
        assert row.zeros == round(0.9 * row.weights)
        assert not made.outcome.model.matrix(row.path)[~made.masks.layers[row.path]].any()
    changes = [event for event in events if isinstance(event, MaskChanged)]
    assert [event.step for event in changes] == (
        [0] if growth == "none" else [0, 7, 14, 21, 28, 34]
    )
    for event in changes:
        assert all(share == pytest.approx(0.9, abs=1e-9) for share in event.sparsity.values())
    assert changes[0].dropped == changes[0].regrown == 0  # what never was is not dropped
    assert all(event.dropped == event.regrown > 0 for event in changes[1:-1])
    # A finished run still shows what changed last.
    topology, real = made.topology, [event for event in changes if event.dropped]
    assert topology.evolution == len(real)
    pairs = [topology.of(path) for path in topology.masks.layers]
    grown = sum(now.kept - (now & before).kept for now, before in pairs)
    if real:
        assert (topology.step, grown) == (real[-1].step, real[-1].regrown)


def test_weights_that_have_learned_nothing_have_no_accuracy_to_compare_with() -> None:
    made, events = run(plan(epochs=1))
    assert made.outcome.report.to_json()["accuracy"]["dense"] is None
    assert made.outcome.report.accuracy_pruned is not None
    assert not any("dense_accuracy" in e.values for e in events if isinstance(e, Metric))
    with pytest.raises(BadInput, match="no dense accuracy to stop within"):
        Run(open_model(SMALL), plan(within=0.01))


@pytest.mark.parametrize(("initial", "final"), [(0.5, 0.9), (0.9, 0.6)])
def test_sparsity_rises_and_falls_evenly(initial: float, final: float) -> None:
    schedule = {"every": 5, "initial": initial, "end": 30}
    made, events = run(plan(schedule, final))
    for event in events:
        if isinstance(event, MaskChanged):
            expected = initial + (final - initial) * event.step / 30
            for path, share in event.sparsity.items():
                weights = made.model.matrix(path).numel()
                assert share == pytest.approx(expected, abs=0.5 / weights + 1e-9)


def test_convolutions_learn_through_their_gemm_view_beside_dense_layers() -> None:
    made, _ = run(plan({"every": 9}, 0.8, "*.conv2", batch=128), "sample:digits-resnet")
    assert {row.path for row in made.outcome.report.layers} == {
        f"layer{number}.0.conv2" for number in (1, 2, 3)
    }
    assert made.outcome.report.accuracy_pruned > 0.5
    fresh = made.outcome.model.state["conv1.weight"]
    assert not torch.equal(fresh, made.model.state["conv1.weight"])


def test_the_digits_are_learned() -> None:
    """Against the dense network, over seeds and sparsities: tests/bench/sparse_training.py."""
    made, _ = run(plan(epochs=60), "new:mlp:64-256-256-256-10")
    assert made.outcome.report.sparsity == pytest.approx(0.9, abs=1e-3)
    assert made.outcome.report.accuracy_pruned > 0.955


def test_the_loss_of_the_paper_learns_with_the_training_that_the_guide_names() -> None:
    recipe = {"loss": "mse", "optimizer": "adamw", "lr": 0.01, "decay": "onecycle"}
    made, events = run(plan(epochs=15, **recipe), "new:mlp:64-256-256-256-10")
    losses = [event.values["loss"] for event in events if "loss" in getattr(event, "values", {})]
    assert losses[-1] < 0.3 * losses[0]
    assert made.outcome.report.accuracy_pruned > 0.85


@pytest.mark.parametrize("schedule", ["sparse-training", "oneshot"])
def test_a_network_that_has_learned_nothing_is_no_teacher(schedule: str) -> None:
    wanted = plan({"kind": schedule}, distil=True)
    with pytest.raises(BadInput, match=f"{SMALL} has learned nothing that it could teach; leave"):
        Run(open_model(SMALL), wanted)
    Run(open_model("sample:digits-resnet"), plan({"kind": schedule}, layers="*conv2", distil=True))


def test_a_neuron_that_nothing_reads_loses_its_inputs_and_a_constant_moves_into_the_bias() -> None:
    model = open_model("new:mlp:4-3-3-2")
    shapes = {"fc1": (3, 4), "fc2": (3, 3), "fc3": (2, 3)}
    # Of fc1's outputs nothing reads 0, and 1 reads nothing; of fc2's nothing reads 2.
    kept = {
        "fc1": [[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]],
        "fc2": [[0, 1, 1], [0, 0, 1], [0, 1, 1]],
        "fc3": [[1, 1, 0], [0, 1, 0]],
    }
    layers = {}
    for path, shape in shapes.items():
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        stored = CSR.from_mask(matrix, torch.tensor(kept[path]).bool())
        layers[path] = evolving(model.module.get_submodule(path), stored)
        with torch.no_grad():
            layers[path].bias.normal_(0.5, 0.1)

    def compute(x: torch.Tensor, seen: dict[str, Any] | None = None) -> torch.Tensor:
        for path, layer in layers.items():
            if seen is not None:
                seen[path] = {"x": x}
            x = layer(x)
            x = x if path == "fc3" else x.relu()
        return x

    x, seen = torch.randn(7, 4), {}
    with torch.no_grad():
        before = compute(x, seen)
        neurons = Neurons(trace(model), list(layers), torch.device("cpu"))
        dead = neurons.dead(layers, seen)
        assert dead["fc1"].lost.tolist() == [True, True, False, False]
        # Row 0 reads the constant 1, row 2 is read by nothing.
        assert dead["fc2"].lost.tolist() == [True, False, False, True, True]
        assert dead["fc3"].lost is None
        assert dead["fc2"].closed.tolist() == [False, True, False]
        for path in ("fc1", "fc2"):
            layers[path].values.data[dead[path].lost] = 0
        assert torch.allclose(compute(x), before, atol=1e-6)


@pytest.mark.parametrize(
    ("wanted", "address", "words"),
    [
        (plan(sparsity=0.99), SMALL, "fc1 at 99.00% has 26 weights for 40 outputs, .* most 98.44%"),
        (plan({"initial": 0.99}), SMALL, "fc1 at 99.00%"),
        (plan(data="sample:digits"), "new:mlp:28-30-10", "64 values each, .* takes 28 features"),
        (plan(), "new:mlp:28-30-2", "names no data"),
        (plan(layers="blocks.0.self_attention*"), "sample:digits-vit", "has no form in CSR"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_sentence(wanted: Plan, address: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        run(wanted, address)
    assert "\n" not in str(caught.value)


def test_other_patterns_and_a_topology_that_both_stays_and_changes_are_refused() -> None:
    data = plan().to_json()
    data["rules"][0]["pattern"] = "block:2x2"
    with pytest.raises(BadInput, match=r"fc1 has pattern .*element would do"):
        Run(open_model(SMALL), Plan.from_json(data))
    with pytest.raises(BadInput, match="growth none keeps the first topology"):
        SCHEDULES.parse({"kind": "sparse-training", "growth": "none", "initial": 0.5})
    with pytest.raises(BadInput, match="take_zeros"):
        Run(open_model(SMALL), Plan.from_json({**plan().to_json(), "take_zeros": True}))


def stopped(wanted: Plan, folder: Path) -> Run:
    """A run that was stopped after its first epoch, with its checkpoint in `folder`."""
    control = Control()
    made = Run(open_model(SMALL), wanted, folder=folder, control=control)
    for event in made.events():
        if isinstance(event, Metric) and "loss" in event.values:
            control.cancel()
    return made


def test_a_checkpoint_of_another_shape_is_refused_and_kept(tmp_path: Path) -> None:
    wanted = plan({"every": 5})
    stopped(wanted, tmp_path)
    saved = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    starts = saved["module"]["fc1.crow"]
    saved["module"]["fc1.crow"] = torch.cat([starts, starts[-1:]])
    torch.save(saved, tmp_path / CHECKPOINT)
    with pytest.raises(BadInput, match=r"the checkpoint does not fit the model \(crow_indices"):
        list(Run(open_model(SMALL), wanted, folder=tmp_path).events())
    assert (tmp_path / CHECKPOINT).exists()


@pytest.mark.parametrize("schedule", ["sparse-training", "agp"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_optimizer_of_another_shape_is_refused(
    tmp_path: Path, schedule: str, optimizer: str
) -> None:
    wanted = plan({"kind": schedule}, optimizer=optimizer)
    stopped(wanted, tmp_path)
    saved = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    state = saved["optimizer"]["weights"]["state"][0]
    name = "momentum_buffer" if optimizer == "sgd" else "exp_avg"
    state[name] = state[name][:-1]
    torch.save(saved, tmp_path / CHECKPOINT)
    with pytest.raises(BadInput, match=f"not fit the model .the optimizer's {name} of a weight is"):
        list(Run(open_model(SMALL), wanted, folder=tmp_path).events())
    assert (tmp_path / CHECKPOINT).exists()


def test_a_resumed_run_knows_how_often_its_topology_has_changed(tmp_path: Path) -> None:
    wanted = plan({"every": 5})
    first = stopped(wanted, tmp_path)
    assert first.topology.evolution == 4
    again = Run(open_model(SMALL), wanted, folder=tmp_path)
    for event in again.events():
        if isinstance(event, MaskChanged):
            break
    assert again.topology.evolution == 4
    assert again.topology.step == 23
    assert torch.equal(again.masks.layers["fc2"], first.masks.layers["fc2"])


def test_a_layer_without_a_rule_is_drawn_anew_too_and_nothing_else_is_said() -> None:
    _, events = run(plan(layers="fc2", epochs=1))
    said = [event.text for event in events if isinstance(event, Log)]
    assert "all weights are drawn anew with seed 0" in said  # its own weights are of seed 0 too


def test_the_head_of_a_run_does_not_round_a_sparsity_to_everything() -> None:
    _, events = run(plan(sparsity=0.966, layers="fc2", epochs=1))
    assert any(isinstance(event, Started) and "96.6%" in event.title for event in events)
