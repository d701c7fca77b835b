"""What makes a measurement one to rely on: repeated, remembered, cancelled, and out of memory."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.engine.errors import BadInput
from secateur.engine.events import Cancelled, Event, Finished, Log
from secateur.engine.measuring.forms import with_mask
from secateur.engine.measuring.measure import measure
from secateur.engine.measuring.request import Request
from secateur.engine.models import open_model
from secateur.engine.models.build import from_module
from secateur.engine.models.model import Model
from secateur.kernels.dispatch import stopwatch as stopwatch_module
from secateur.kernels.dispatch.dispatcher import Dispatcher
from secateur.kernels.dispatch.memory import Memory

GROUPED = Request(patterns=("group",), sparsities=(0.95,), batches=(64,))


def model_of(*layers: nn.Module, width: int = 512) -> Model:
    def inputs(batch: int) -> tuple[tuple[Tensor], dict[str, object]]:
        return (torch.randn(batch, width, generator=torch.Generator().manual_seed(0)),), {}

    net = nn.Sequential(*layers)
    return from_module(net.eval(), address="test:model", name="model", inputs=inputs)


def wide() -> Model:
    torch.manual_seed(0)
    return model_of(nn.Linear(512, 2048), nn.ReLU(), nn.Linear(2048, 512))


def result(model: Model, request: Request, **others: Any) -> dict[str, Any]:
    *_, last = measure(model, request=request, **others)
    assert isinstance(last, Finished)
    return last.result


def test_two_runs_agree_within_their_spread(tmp_path: Path):
    """The second times everything anew. Ratios are compared, and only where both were sure."""
    memory = Memory(tmp_path)
    for _ in range(3):
        runs = [
            result(wide(), GROUPED, memory=memory, seconds=0.1)["cells"],
            result(wide(), GROUPED, memory=Memory(tmp_path, fresh=True), seconds=0.1)["cells"],
        ]
        assert not any(cell["cached"] for cell in runs[1])
        apart = []
        for one, other in zip(*runs, strict=True):
            if "busy" in (one["verdict"]["kind"], other["verdict"]["kind"]):
                continue
            allowed = 1.3 * (1 + one["spread"]) * (1 + other["spread"])
            ratio = one["speedup"] / other["speedup"]
            if not 1 / allowed <= ratio <= allowed:
                apart.append((one["layer"], one["speedup"], other["speedup"]))
        if not apart:
            return
        memory = Memory(tmp_path, fresh=True)
    pytest.fail(f"speed-ups of two runs differ beyond their spread, three times: {apart}")


def pruned_as(model: Model) -> tuple[nn.Module, Tensor]:
    """The layer as `measure` prunes it, and an input as it has there."""
    layer = model.runnable()[0]
    columns = layer.weight.detach().abs().sum(dim=0)
    kept = columns >= columns.topk(round(0.05 * 512)).values.min()
    return with_mask(layer, kept.expand_as(layer.weight)), torch.randn(64, 512)


@pytest.mark.usefixtures("quiet")
def test_the_dispatcher_reads_what_measuring_remembers(tmp_path: Path):
    asked = replace(GROUPED, layers=("0",))
    (cell,) = result(wide(), asked, memory=Memory(tmp_path), seconds=0.05)["cells"]
    choice = Dispatcher(Memory(tmp_path)).choose(*pruned_as(wide()))
    assert choice.remembered
    assert (choice.path, choice.tried[choice.path]) == (cell["ran"], cell["ms"])


@pytest.mark.usefixtures("quiet")
def test_measuring_reads_what_the_dispatcher_remembers(tmp_path: Path):
    choice = Dispatcher(Memory(tmp_path), seconds=0.05).choose(*pruned_as(wide()))
    asked = replace(GROUPED, layers=("0",))
    (cell,) = result(wide(), asked, memory=Memory(tmp_path))["cells"]
    assert cell["cached"]
    assert (cell["ran"], cell["ms"]) == (choice.path, choice.tried[choice.path])
    assert cell["dense_ms"] == choice.tried["dense"]


@pytest.mark.usefixtures("quiet")
def test_a_second_run_times_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    request = replace(GROUPED, steps=True)
    first = result(wide(), request, memory=Memory(tmp_path), seconds=0.05)

    def race(*_: object, **__: object) -> None:
        raise AssertionError("timed again")

    monkeypatch.setattr(stopwatch_module, "race", race)
    again = result(wide(), request, memory=Memory(tmp_path))
    assert all(cell["cached"] for cell in again["cells"])
    for one, other in zip(first["cells"], again["cells"], strict=True):
        # The machine's limits may have been found anew, if it was busy before.
        same = {"cached": True, "roofline": None}
        assert {**one, **same} == {**other, **same}


class Greedy(nn.Linear):
    """Asks for more memory than any machine has once its batch is large."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 8:
            torch.empty(1 << 58, dtype=torch.uint8)
        return super().forward(x)


def test_a_batch_that_does_not_fit_is_a_failed_row_and_the_rest_goes_on():
    model = model_of(Greedy(512, 64), nn.ReLU(), nn.Linear(64, 64))
    asked = replace(GROUPED, batches=(16, 4))
    found = result(model, asked, seconds=0.01)
    (row,) = found["failed"]
    assert (row["layer"], row["batch"]) == (None, 16)
    assert "a batch of 16 does not fit in memory; take a smaller one" in row["error"]
    assert {cell["batch"] for cell in found["cells"]} == {4}
    assert len(found["cells"]) == 3
    with pytest.raises(BadInput, match="batch of 16 does not fit"):
        result(model, replace(GROUPED, batches=(16,)))


class Forgetful(nn.Linear):
    """Runs out of memory when it is called alone, as a GPU does whose memory others fill."""

    alone = False

    def forward(self, x: Tensor) -> Tensor:
        if Forgetful.alone:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().forward(x)


def test_memory_that_runs_out_in_the_middle_costs_only_its_cell(monkeypatch: pytest.MonkeyPatch):
    model = model_of(nn.Linear(512, 64), Forgetful(64, 64), nn.Linear(64, 8))
    events: list[Event] = []
    for event in measure(model, request=GROUPED, seconds=0.01):
        monkeypatch.setattr(Forgetful, "alone", "1, group" in getattr(event, "text", ""))
        events.append(event)
    found = events[-1].result
    (row,) = found["failed"]
    assert (row["layer"], row["pattern"]) == ("1", "group")
    assert row["error"] == "out of memory: a smaller batch may fit"
    assert [cell["layer"] for cell in found["cells"]] == ["0", "2", None]
    assert any("out of memory" in e.text for e in events if isinstance(e, Log))


def test_every_batch_dtype_and_device_in_one_go():
    asked = Request(
        batches=(1, 4),
        dtypes=("float32", "bfloat16"),
        devices=("cpu", "auto"),
        patterns=("group",),
        sparsities=(0.5,),
        layers=("0",),
    )
    cells = result(wide(), asked, seconds=0.01)["cells"]
    settings = [(cell["dtype"], cell["batch"]) for cell in cells if cell["device"] == "cpu"]
    assert settings == [("float32", 1), ("float32", 4), ("bfloat16", 1), ("bfloat16", 4)]


def test_what_a_dtype_cannot_do_is_told_and_the_rest_goes_on():
    class Picky(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if x.dtype != torch.float32:
                raise NotImplementedError("not implemented for 'Half'")
            return super().forward(x)

    model = model_of(Picky(512, 64))
    found = result(model, replace(GROUPED, dtypes=("float16", "float32")), seconds=0.01)
    (row,) = found["failed"]
    assert row["dtype"] == "float16"
    assert "in float16: " in row["error"]
    assert {cell["dtype"] for cell in found["cells"]} == {"float32"}


def test_waiting_threads_that_spin_are_told(monkeypatch: pytest.MonkeyPatch):
    def logs() -> list[str]:
        events = measure(model_of(nn.Linear(512, 8)), request=GROUPED, seconds=0.005)
        return [event.text for event in events if isinstance(event, Log)]

    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert not any("OMP_WAIT_POLICY" in text for text in logs())
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert any("OMP_WAIT_POLICY is not 'passive'" in text for text in logs())


def test_nothing_more_is_measured_once_another_thread_cancels():
    """As the studio does, wherever the run happens to be."""
    stop = threading.Event()
    timer = threading.Timer(0.5, stop.set)
    timer.start()
    after: list[Event] = []
    events = measure(open_model("sample:digits-resnet"), cancel=stop.is_set, seconds=60)
    for event in events:
        if stop.is_set():
            after.append(event)
    timer.join()
    assert len(after) <= 2  # what was under way when it came, and the end
    assert isinstance(after[-1], Cancelled)
