"""Every schedule in short runs on the bundled sample: what is promised of masks and weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from secateur.engine.control import Control
from secateur.engine.errors import BadInput
from secateur.engine.events import Event, Log, MaskChanged, Metric
from secateur.engine.gemm import Gemm
from secateur.engine.models import open_model
from secateur.engine.models.model import Model
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Plan
from secateur.engine.runs.checkpoint import CHECKPOINT
from secateur.engine.runs.runner import Run
from secateur.engine.schedules import SCHEDULES
from secateur.engine.schedules.curve import cubic
from secateur.engine.schedules.driver import Course, Driver, Layer
from secateur.engine.schedules.pressure import Pressure

SAMPLE = "sample:digits-resnet"
STEPS = 12  # two epochs in batches of 256
TRAINING = {"epochs": 2, "batch": 256, "lr": 0.02}
CHANNEL = {"kind": "nm:2:4", "order": "channel"}
ALL: dict[str, tuple[dict[str, Any], Any]] = {
    "agp": ({"kind": "agp", "every": 2}, "element"),
    "iterative": ({"kind": "iterative", "rounds": 3}, "element"),
    "iterative rewind": ({"kind": "iterative", "rounds": 3, "rewind": "weights"}, "element"),
    "iterative nm": ({"kind": "iterative", "rounds": 2, "rewind": "rate"}, "nm:2:4"),
    "movement hard": ({"kind": "movement", "every": 2}, "element"),
    "movement nm": ({"kind": "movement", "every": 2}, "nm:2:4"),
    "movement soft": ({"kind": "movement", "form": "soft", "every": 2}, "element"),
    "movement soft group": ({"kind": "movement", "form": "soft", "every": 2}, "group"),
    "admm": ({"kind": "admm", "every": 2}, "element"),
    "admm nm": ({"kind": "admm", "every": 2}, "nm:2:4"),
    "admm kernel": ({"kind": "admm", "every": 4}, "kernel:4"),
    "dst": ({"kind": "dst", "every": 2}, "element"),
    "dst filter": ({"kind": "dst", "every": 2}, "filter"),
    "gates": ({"kind": "gates", "every": 2}, "element"),
    "gates block": ({"kind": "gates", "every": 2}, "block:2x2"),
    "set": ({"kind": "set", "every": 3}, "element"),
    "set fresh": ({"kind": "set", "every": 3, "fresh": True, "start": "random"}, "block:2x2"),
    "rigl": ({"kind": "rigl", "every": 3}, "element"),
    "rigl nm": ({"kind": "rigl", "every": 3}, "nm:2:4"),
    "sparse": ({"kind": "sparse-training", "every": 3}, "element"),
    "sparse full": ({"kind": "sparse-training", "every": 2, "growth": "full"}, "element"),
    "sparse random": (
        {"kind": "sparse-training", "every": 4, "growth": "random", "initial": 0.5},
        "element",
    ),
    "sparse fixed": ({"kind": "sparse-training", "growth": "none"}, "element"),
    "gumbel": ({"kind": "gumbel", "every": 4}, "nm:2:4"),
    "gumbel channel": ({"kind": "gumbel", "start": "random"}, CHANNEL),
    "oneshot fresh": ({"kind": "oneshot", "fresh": True}, "element"),
    "nested": ({"kind": "nested", "levels": [0.75, 0.9]}, "element"),
}  # fmt: skip


class Killer:
    """Has plans run in processes of their own and kills them; see killed_runs.py."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("killed_runs.py")), SAMPLE]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def kill_after(self, steps: int, wanted: Plan, folder: Path) -> None:
        """Run, or take up again, a plan in `folder`, and kill the process `steps` steps later."""
        asked = {"plan": wanted.to_json(), "folder": str(folder), "steps": steps}
        self._process.stdin.write(json.dumps(asked) + "\n")
        number = int(self._process.stdout.readline())
        assert self._process.stdout.readline() == "hangs\n"
        os.kill(number, signal.SIGKILL)
        assert int(self._process.stdout.readline()) == -signal.SIGKILL

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    made = Killer()
    yield made
    made.close()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the processes that are killed: sums depend on how many threads share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class StopAt(Control):
    """Stops a run before optimizer step `step`, by counting the checks of its training."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._left = step

    def check(self) -> None:
        if self._left == 0:
            self.cancel()
        self._left -= 1
        super().check()


def plan(schedule: Any, pattern: Any = "element", layers: str = "layer[23]*", **more: Any) -> Plan:
    rule = {"layers": layers, "pattern": pattern, "skip_misfits": True}
    if "nm" not in str(pattern):
        rule["sparsity"] = 0.75
    return Plan.from_json({"rules": [rule], "schedule": schedule, "training": TRAINING, **more})


def start(wanted: Plan, **more: Any) -> Run:
    return Run(open_model(SAMPLE), wanted, **more)


def drain(run: Run) -> list[Event]:
    return list(run.events())


def same(a: Run, b: Run) -> None:
    assert a.masks.layers.keys() == b.masks.layers.keys()
    for path, mask in a.masks.layers.items():
        assert torch.equal(mask, b.masks.layers[path]), path
    for name, tensor in a.outcome.model.state.items():
        assert torch.equal(tensor, b.outcome.model.state[name]), name


def test_every_schedule_is_killed_here() -> None:
    assert {schedule["kind"] for schedule, _ in ALL.values()} == set(SCHEDULES.kinds())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
@pytest.mark.parametrize("name", ALL)
def test_masks_are_as_asked_and_final_and_a_killed_run_ends_in_the_same_bits(
    name: str, tmp_path: Path, killer: Killer, one_thread: None
) -> None:
    schedule, pattern = ALL[name]
    wanted = plan(schedule, pattern)
    whole = start(wanted)
    events = drain(whole)
    last = wanted.schedule.last_step(STEPS)
    changes = [event for event in events if isinstance(event, MaskChanged)]
    assert changes[-1].step == last if wanted.schedule.kind not in ("set", "rigl") else True
    assert all(event.step <= last for event in changes)
    for row in whole.outcome.report.layers:
        # Half a unit of the coarsest layer: one of 32 filters, one kernel of 32 x 16.
        assert row.achieved == pytest.approx(row.requested, abs=1 / 64 + 1e-6), row.path
        assert row.zeros == round(row.achieved * row.weights)
    if not wanted.schedule.frozen:
        for path, mask in whole.masks.layers.items():
            assert not whole.outcome.model.matrix(path)[~mask].any(), path
    # In the middle, and from there again, just before the masks become final.
    end = last or STEPS // 2  # where they are final from the beginning: while they are held
    killer.kill_after(end // 2, wanted, tmp_path)
    killer.kill_after(end - end // 2, wanted, tmp_path)
    rest = start(wanted, folder=tmp_path)
    assert any(isinstance(e, Log) and f"at step {end}" in e.text for e in drain(rest))
    same(rest, whole)


def test_momentum_of_pruned_weights_is_zero_under_every_schedule(tmp_path: Path) -> None:
    for name in ("admm", "gates", "movement hard", "rigl"):
        folder = tmp_path / name
        folder.mkdir()
        control = StopAt(11)
        run = start(plan(*ALL[name]), folder=folder, control=control)
        drain(run)
        saved = torch.load(folder / CHECKPOINT, weights_only=True)
        names = list(saved["module"])
        parameters = [n for n, _ in run.model.module.named_parameters()]
        momentum = saved["optimizer"]["weights"]["state"]
        for path, mask in run.masks.layers.items():
            layer = run.model.info.layer(path)
            assert layer.weight in names
            buffer = momentum[parameters.index(layer.weight)]["momentum_buffer"]
            assert not layer.gemm.view(buffer)[~mask].any(), (name, path)
            assert layer.gemm.view(buffer)[mask].any(), (name, path)


def test_gumbel_leaves_weights_and_buffers_bit_for_bit() -> None:
    run = start(plan({"kind": "gumbel"}, "nm:2:4", layers="*"))
    before = {name: tensor.clone() for name, tensor in run.model.state.items()}
    events = drain(run)
    for name, tensor in run.outcome.model.state.items():
        assert torch.equal(tensor, before[name]), name
    assert any(event.regrown for event in events if isinstance(event, MaskChanged))


def test_choices_start_from_magnitude_or_by_chance() -> None:
    magnitude = start(plan("oneshot", "nm:2:4"))
    drain(magnitude)
    overlap = {}
    for word in ("magnitude", "random"):
        run = start(plan({"kind": "gumbel", "start": word, "rate": 1e-9}, "nm:2:4"))
        drain(run)
        same_places = [
            float((mask == magnitude.masks.layers[path]).float().mean())
            for path, mask in run.masks.layers.items()
        ]
        overlap[word] = min(same_places)
    assert overlap["magnitude"] == 1.0
    assert overlap["random"] < 0.7


def alone(schedule: dict[str, Any], sparsity: float = 0.75) -> tuple[Driver, nn.Linear, list[int]]:
    """A driver on one linear layer, pruned by magnitude; the list counts optimizers begun anew."""
    torch.manual_seed(0)
    module, anew = nn.Linear(8, 4, bias=False), []
    layer = Layer(PATTERNS.parse("element"), sparsity, Gemm((4, 8)), "weight")

    def prune(wanted: Any) -> dict[str, torch.Tensor]:
        scores = module.weight.detach().abs()
        return {path: layer.pattern.mask(scores, share) for path, share in wanted.items()}

    course = Course({"fc": layer}, module, STEPS, 0, prune, lambda: anew.append(1), {})
    driver = SCHEDULES.parse(schedule).driver(course)
    driver.begin()
    return driver, module, anew


def test_rewinding_writes_the_early_weights_and_the_optimizer_starts_anew() -> None:
    driver, module, anew = alone(
        {"kind": "iterative", "rounds": 4, "rewind": "weights", "rewind_to": 2}
    )
    early = None
    for step in range(10):
        if step == 2:
            early = module.weight.detach().clone()
        masks = driver.masks(step)
        if masks is not None and step > 2:
            assert torch.equal(module.weight, early)
        with torch.no_grad():
            module.weight += 1
    assert step == driver.schedule.last_step(STEPS)
    assert len(anew) == 3


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"rewind_to": 9}, "rewind_to must come before the last round, .* step 9 of 12, not at 9"),
        ({"rounds": 1}, "rewind weights needs at least 2 rounds"),
    ],
)
def test_rewinding_that_would_never_happen_is_refused(setting: Any, words: str) -> None:
    wanted = {"kind": "iterative", "rounds": 3, "rewind": "weights", **setting}
    with pytest.raises(BadInput, match=words):
        start(plan(wanted))
    start(plan({**wanted, "rounds": 3, "rewind_to": 8}))
    start(plan({**wanted, "rewind": "rate"}))


def test_the_pull_of_admm_is_towards_the_nearest_matrix_of_the_pattern() -> None:
    for word, allowed in (("element", None), ("nm:2:4", (2, 4))):
        torch.manual_seed(1)
        weight = torch.randn(2, 4)
        gemm, share = Gemm((2, 4)), 0.5
        mask = PATTERNS.parse(word).mask(weight.square(), share, gemm)
        nearest = min(
            (
                float(weight.flatten()[list(gone)].square().sum()), gone)
                for gone in combinations(range(8), 4)
                if allowed is None or sum(place < 4 for place in gone) == 2
        )  # fmt: skip
        gone = torch.ones(8, dtype=torch.bool)
        gone[list(nearest[1])] = False
        assert torch.equal(mask, gone.view(2, 4)), word


def test_the_dual_of_admm_is_scaled_with_its_pull() -> None:
    driver, module, _ = alone({"kind": "admm", "every": 3, "rho": 0.1, "last_rho": 0.4})
    weight = module.weight.detach()
    (mask,) = driver.masks(0).values()
    target = weight * mask
    assert torch.equal(driver.state()["targets"]["fc"], target)
    assert driver.penalty().item() == pytest.approx(0.05 * float((weight - target).square().sum()))
    driver.masks(3)
    state = driver.state()
    assert state["rho"] == pytest.approx(0.1 * 4 ** (3 / 9))
    # y = ρ U goes on growing by ρ (W - Z), whatever ρ is now.
    assert torch.allclose(
        state["rho"] * state["duals"]["fc"], 0.1 * (weight - state["targets"]["fc"]), atol=1e-7
    )


def on_digits(model: Model, schedule: Any, sparsity: float) -> Run:
    """A run of 276 steps over all layers."""
    training = {"data": "sample:digits", "epochs": 12, "lr": 0.02}
    rule = {"layers": "*", "pattern": "element", "sparsity": sparsity}
    return Run(model, Plan.from_json({"rules": [rule], "schedule": schedule, "training": training}))


@pytest.mark.parametrize("sparsity", [0.5, 0.95])
@pytest.mark.parametrize(
    ("schedule", "number"),
    [
        ({"kind": "movement", "form": "soft"}, None),
        ({"kind": "dst"}, "threshold"),
        ({"kind": "gates"}, "closed"),
    ],
)
def test_learned_sparsity_follows_the_curve_to_its_end(
    mlp: Callable[[], Model], schedule: Any, number: str | None, sparsity: float
) -> None:
    run = on_digits(mlp(), schedule, sparsity)
    events = drain(run)
    changes = [event for event in events if isinstance(event, MaskChanged)]
    weights = {row.path: row.weights for row in run.outcome.report.layers}
    last = changes[-1].step
    for change in changes:
        reached = sum(change.sparsity[path] * n for path, n in weights.items())
        reached /= sum(weights.values())
        target = run.plan.schedule.target(change.step, 12 * 23, sparsity)
        assert reached == pytest.approx(target, abs=0.15), change.step
        if change.step >= last // 2:
            # As a share of what is kept: at 95 % a point is a fifth of the weights.
            assert abs(reached - target) < max(0.03, 0.4 * (1 - target)), change.step
    before = sum(changes[-2].sparsity[path] * n for path, n in weights.items())
    assert before / sum(weights.values()) == pytest.approx(sparsity, abs=0.025)
    values = [e.values[number] for e in events if isinstance(e, Metric) and number in e.values]
    assert len(values) > 5 if number else not values


def test_a_pull_goes_by_the_share_that_is_kept() -> None:
    for both_ways in (False, True):
        pressure = Pressure(["loose", "tight", "ahead"], gain=10.0, both_ways=both_ways)
        pressure.steer("loose", 0.48, 0.5)
        pressure.steer("tight", 0.93, 0.95)
        assert pressure.pulls["tight"] > 5 * pressure.pulls["loose"] > 0
        for _ in range(20):
            pressure.steer("ahead", 0.96, 0.95)
        assert (pressure.pulls["ahead"] < 0) == both_ways
        # An emptied layer, or one that is to be: finite all the same.
        pressure.steer("loose", 1.0, 0.5)
        pressure.steer("tight", 0.5, 1.0)
        assert all(abs(pull) <= 20 for pull in pressure.pulls.values())


def test_admm_draws_weights_to_its_pattern_before_the_cut(mlp: Callable[[], Model]) -> None:
    run = on_digits(mlp(), "admm", 0.9)
    away = [e.values["distance"] for e in drain(run) if "distance" in getattr(e, "values", {})]
    assert away[-1] < 0.6 * max(away)


@pytest.mark.parametrize(
    ("schedule", "pattern", "words"),
    [
        ("gumbel", "element", "gumbel learns N:M masks; nm:2:4 would fit"),
        ("gumbel", "nm:8:16", "12870 patterns"),
        ("gumbel", {"kind": "nm:2:4", "order": "channel", "permute": True}, "permute to false"),
        ("admm", {"kind": "nm:2:4", "order": "channel", "permute": True}, "permute to false"),
        ("dst", "nm:2:4", "whose masks dst cannot learn"),
        ("gates", "vector:4", "whose masks gates cannot learn"),
        ({"kind": "movement", "form": "soft"}, "kernel:4", r"movement \(soft\) cannot learn"),
        ("rigl", "layer", "goes or stays as a whole, which rigl cannot learn"),
    ],
)
def test_a_schedule_refuses_a_pattern_in_one_sentence(
    schedule: Any, pattern: Any, words: str
) -> None:
    rule = {"layers": "layer2.0.conv2", "pattern": pattern}
    if "nm" not in str(pattern):
        rule["sparsity"] = 0.5
    with pytest.raises(BadInput, match=words) as caught:
        start(Plan.from_json({"rules": [rule], "schedule": schedule}))
    assert str(caught.value).startswith("layer2.0.conv2 ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({"kind": "movement", "begin": 9, "end": 9}, r"movement: end must come after begin \(9\)"),
        ({"kind": "admm", "rho": 1.0, "last_rho": 0.5}, r"admm: last_rho must be at least rho"),
        ({"kind": "dst", "rate": 0}, "dst: rate must be at least"),
        ({"kind": "iterative", "rewind": "weight"}, "weights"),
    ],
)
def test_settings_out_of_bounds_are_said(schedule: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        SCHEDULES.parse(schedule)


def test_curves_rise_to_what_was_asked() -> None:
    assert cubic(0, 0, 100, 0.2, 0.9) == pytest.approx(0.2)
    assert cubic(50, 0, 100, 0.0, 0.8) == pytest.approx(0.8 * (1 - 0.5**3))
    assert cubic(100, 0, 100, 0.0, 0.8) == 0.8
    agp = SCHEDULES.parse({"kind": "agp", "begin": 10, "end": 20, "every": 5})
    assert [agp.target(step, 40, 0.8) for step in (9, 11, 21)] == [None, None, None]
    assert agp.target(10, 40, 0.8) == 0.0
    assert agp.target(20, 40, 0.8) == 0.8
    iterative = SCHEDULES.parse({"kind": "iterative", "rounds": 4})
    found = [iterative.target(step, 40, 0.9) for step in range(41)]
    reached = [value for value in found if value is not None]
    assert [step for step, value in enumerate(found) if value is not None] == [0, 10, 20, 30]
    # Every round takes the same share of what is left.
    left = [1 - value for value in reached]
    assert reached[-1] == pytest.approx(0.9)
    assert [b / a for a, b in pairwise(left)] == pytest.approx([left[0]] * 3)


def test_fresh_weights_differ_from_those_loaded_and_repeat_by_seed() -> None:
    def drawn(seed: int) -> dict[str, torch.Tensor]:
        training = {**TRAINING, "lr": 0.0}
        run = start(plan({"kind": "oneshot", "fresh": True}, seed=seed, training=training))
        drain(run)
        return {name: t for name, t in run.outcome.model.state.items() if name.startswith("conv1")}

    loaded = open_model(SAMPLE).state["conv1.weight"]
    first = drawn(0)["conv1.weight"]
    assert torch.equal(first, drawn(0)["conv1.weight"])
    assert not torch.equal(first, drawn(1)["conv1.weight"])
    assert not torch.equal(first, loaded)


@pytest.mark.parametrize("kind", ["admm", "gates", "rigl", {"kind": "movement", "every": 2}])
def test_zeros_that_were_taken_over_stay_and_count(kind: Any) -> None:
    model = open_model(SAMPLE)
    weight = model.state["layer2.0.conv2.weight"]
    zeros = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.3
    weight[zeros] = 0
    model.module.load_state_dict(model.state)
    run = Run(model, plan(kind, layers="layer2.0.conv2", take_zeros=True))
    drain(run)
    (row,) = [row for row in run.outcome.report.layers if row.path == "layer2.0.conv2"]
    gemm = run.model.info.layer(row.path).gemm
    assert not run.masks.layers[row.path][gemm.view(zeros)].any()
    assert row.achieved == pytest.approx(0.75, abs=1e-3)


def test_growth_exchanges_weights_at_equal_sparsity() -> None:
    for kind in ("set", "rigl"):
        events = drain(start(plan({"kind": kind, "every": 3})))
        changes = [event for event in events if isinstance(event, MaskChanged)]
        assert [event.step for event in changes] == [0, 3, 6, 9]
        assert all(event.dropped == event.regrown > 0 for event in changes[1:-1])
        # The share that is exchanged falls to nothing.
        assert changes[-1].regrown == 0
        assert changes[1].regrown > changes[2].regrown
