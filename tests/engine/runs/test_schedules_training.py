"""Training under a schedule: rates, clipping, precision, early stop, and a loss that is NaN."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from secateur.engine.control import Control
from secateur.engine.data import load_data
from secateur.engine.errors import BadInput
from secateur.engine.events import Log, MaskChanged
from secateur.engine.models import open_model
from secateur.engine.models.model import Model
from secateur.engine.plan import Plan, Training
from secateur.engine.runs.checkpoint import CHECKPOINT, Checkpoint
from secateur.engine.runs.rates import factor
from secateur.engine.runs.runner import Run
from secateur.engine.runs.training import Trainer


def run_of(
    schedule: Any = "oneshot",
    folder: Path | None = None,
    control: Control | None = None,
    model: Model | None = None,
    **training: Any,
) -> Run:
    rule = {"layers": "*" if model else "layer3*", "pattern": "element", "sparsity": 0.5}
    training = {"data": "sample:digits", "batch": 256, **training}
    plan = Plan.from_json({"rules": [rule], "schedule": schedule, "training": training})
    return Run(model or open_model("sample:digits-resnet"), plan, folder=folder, control=control)


def trainer(**training: Any) -> tuple[Trainer, Any, torch.Tensor]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    data = load_data("sample:digits")
    inputs, labels = next(data.batches("train", 64, seed=0, epoch=0, shuffle=True))
    made = Trainer(module, Training(**training), torch.device("cpu"), None)
    return made, inputs, labels


def test_courses_of_the_rate_begin_and_end_where_they_should() -> None:
    assert [factor("step", done) for done in (0, 0.49, 0.5, 0.75, 1)] == pytest.approx(
        [1, 1, 0.1, 0.01, 0.01]
    )
    rising = [factor("onecycle", done / 100) for done in range(101)]
    assert rising[0] == pytest.approx(1 / 25)
    assert rising[30] == pytest.approx(1)
    assert rising[:31] == sorted(rising[:31])
    assert rising[30:] == sorted(rising[30:], reverse=True)
    assert rising[100] == pytest.approx(0, abs=1e-6)
    assert [factor("late", done) for done in (0, 0.75, 1)] == pytest.approx([1, 1, 0])


@pytest.mark.parametrize("decay", ["step", "onecycle"])
def test_a_plan_trains_along_the_course_it_names(decay: str) -> None:
    made, inputs, labels = trainer(lr=0.5, decay=decay)
    for step in (0, 30, 60, 90):
        made.step(inputs, labels, step, 100)
        rate = made.optimizer.param_groups[0]["lr"]
        assert rate == pytest.approx(0.5 * factor(decay, step / 100))


def test_clipping_bounds_the_step() -> None:
    moved = {}
    for clip in (0.0, 0.01):
        made, inputs, labels = trainer(lr=1.0, momentum=0.0, clip=clip, decay="constant")
        before = [p.detach().clone() for p in made.module.parameters()]
        made.step(inputs, labels, 0, 1)
        pairs = zip(made.module.parameters(), before, strict=True)
        moved[clip] = sum(float((now.detach() - then).square().sum()) for now, then in pairs) ** 0.5
    assert moved[0.01] == pytest.approx(0.01, rel=1e-3)
    assert moved[0.0] > 0.1


def test_distillation_is_half_of_the_loss_and_no_more_than_that() -> None:
    made, inputs, labels = trainer()
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        own, told = made.module(inputs), teacher(inputs)
    entropy = functional.cross_entropy(own, labels)
    softened = [functional.softmax(scores / 2, 1) for scores in (told, own)]
    divergence = (softened[0] * (softened[0] / softened[1]).log()).sum(1).mean()
    for dense, expected in (
        (teacher, entropy / 2 + 2**2 * divergence / 2),
        (copy.deepcopy(made.module), entropy / 2),
    ):
        again = Trainer(
            copy.deepcopy(made.module), Training(distil=True), torch.device("cpu"), dense
        )
        assert again.step(inputs, labels, 0, 1) == pytest.approx(float(expected), rel=1e-5)


def test_mixed_precision_computes_otherwise_and_keeps_full_weights(
    mlp: Callable[[], Model],
) -> None:
    losses = {}
    for precision in ("full", "mixed"):
        made, inputs, labels = trainer(precision=precision)
        losses[precision] = made.step(inputs, labels, 0, 1)
        for parameter in made.module.parameters():
            assert parameter.dtype == torch.float32
            assert made.optimizer.state[parameter]["momentum_buffer"].dtype == torch.float32
    assert losses["mixed"] == pytest.approx(losses["full"], rel=0.02)
    assert losses["mixed"] != losses["full"]
    run = run_of("gates", model=mlp(), epochs=1, precision="mixed")
    list(run.events())
    assert run.outcome.report.sparsity == pytest.approx(0.5, abs=0.01)


def test_a_run_stops_early_once_final_masks_are_good_enough(mlp: Callable[[], Model]) -> None:
    run = run_of({"kind": "agp", "end": 6, "every": 3}, model=mlp(), epochs=12, within=0.05)
    events = list(run.events())
    (said,) = [e.text for e in events if isinstance(e, Log) and "is within" in e.text]
    step = int(said.split("step ")[1].split(" ")[0])
    assert 6 < step < 72
    assert run.outcome.report.steps == step
    last = [e.values["accuracy"] for e in events if "accuracy" in getattr(e, "values", {})][-1]
    assert last >= run.outcome.report.accuracy_dense - 0.05
    # Not before the masks are final, however good it is.
    later = run_of({"kind": "agp", "end": 60, "every": 3}, model=mlp(), epochs=12, within=1.0)
    steps = [e.step for e in later.events() if isinstance(e, MaskChanged)]
    assert steps[-1] == 60


def test_a_loss_that_is_no_number_names_the_step_and_leaves_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    wild = {"epochs": 6, "lr": 100.0, "weight_decay": 10.0}
    control = Control()
    for event in run_of("agp", tmp_path, control, **wild).events():
        if isinstance(event, MaskChanged):
            control.cancel()
    assert Checkpoint.load(tmp_path / CHECKPOINT).step == 1
    with pytest.raises(BadInput, match=r"step \d+: the loss became NaN") as caught:
        list(run_of("agp", tmp_path, **wild).events())
    assert "the last checkpoint is kept" in str(caught.value)
    kept = Checkpoint.load(tmp_path / CHECKPOINT)
    assert kept.step >= 1
    assert all(bool(value.isfinite().all()) for value in kept.module.values())


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    """As after a last step that was too long: the loss would say it only at the next."""
    run = run_of("agp", tmp_path, epochs=1)
    lesson = run._learning(run._training, run._data, "digest", 0.9)
    trainer_of_it = Trainer(lesson.module, run._training, torch.device("cpu"), None)
    driver = run.plan.schedule.driver(lesson._course(trainer_of_it, 6))
    assert lesson._save(trainer_of_it, driver, 1)
    with torch.no_grad():
        next(lesson.module.parameters()).view(-1)[0] = float("inf")
    assert not lesson._save(trainer_of_it, driver, 2)
    assert Checkpoint.load(tmp_path / CHECKPOINT).step == 1
