"""The real engine process over its real pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secateur.engine.compiled_loops import WORDS
from secateur.engine.masks import Masks
from secateur.engine.protocol import VERSION, Decoder, Message, encode

RULE = {"layers": "*", "pattern": "element", "sparsity": 0.9}


class Engine:
    """A small client: requests, and events by job."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "secateur.engine", "engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._decoder = Decoder()
        self._inbox: list[Message] = []
        self._number = 0

    def _next(self) -> Message:
        while not self._inbox:
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            if not data:
                raise EOFError(self.process.stderr.read().decode())
            self._inbox += self._decoder.feed(data)
        return self._inbox.pop(0)

    def ask(self, method: str, **params: Any) -> tuple[Any, dict[str, np.ndarray]]:
        self._number += 1
        header = {"type": "request", "id": self._number, "method": method, "params": params}
        self.process.stdin.write(encode(Message(header)))
        self.process.stdin.flush()
        waiting = []
        while True:
            message = self._next()
            if message.header["type"] == "reply":
                break
            waiting.append(message)
        self._inbox = waiting + self._inbox
        assert message.header["id"] == self._number
        if "error" in message.header:
            raise RuntimeError(message.header["error"]["message"])
        return message.header["result"], message.arrays

    def events(self, job: int) -> Iterator[dict[str, Any]]:
        while True:
            message = self._next()
            assert message.header["type"] == "event"
            if message.header["job"] == job:
                event = message.header["event"]
                yield event
                if event["kind"] in ("finished", "failed", "cancelled"):
                    return

    def job(self, job: str, **params: Any) -> list[dict[str, Any]]:
        number = self.ask("start", job=job, params=params)[0]["job"]
        return list(self.events(number))

    def close(self) -> int:
        """Leave as the studio does, by closing the engine's input; returns the exit status."""
        self.process.stdin.close()
        code = self.process.wait(timeout=20)
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)


@pytest.fixture(scope="module")
def engine_process() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    assert engine.close() == 0


@pytest.fixture
def start() -> Iterator[Callable[[], Engine]]:
    """Starts engines of one test's own and ends those that are left."""
    engines: list[Engine] = []

    def start_one() -> Engine:
        engines.append(Engine())
        return engines[-1]

    yield start_one
    for engine in engines:
        if not engine.process.stdin.closed:
            engine.kill()


def test_hello_and_examples(engine_process: Engine) -> None:
    hello, _ = engine_process.ask("hello")
    assert hello["protocol"] == VERSION
    assert hello["pid"] == engine_process.process.pid
    _, examples = engine_process.ask("examples")
    assert {"element", "nm", "block", "group", "filter"} <= set(examples)
    assert all(mask.shape == (12, 12) for mask in examples.values())


def test_open_tile_value_histogram(engine_process: Engine) -> None:
    *_, done = engine_process.job("open", address="sample:digits-resnet")
    assert done["result"]["info"]["params"] == 77754
    layer = "layer2.0.conv2"
    rule = {"layers": layer, "pattern": "group", "sparsity": 0.5}
    meta, arrays = engine_process.ask(
        "tile", layer=layer, view="magnitude", rect=[0, 0, 32, 288], size=[100, 1000], rule=rule
    )
    assert meta["achieved"] == 0.5
    assert arrays["density"].shape == (32, 288)
    assert set(np.unique(arrays["density"])) == {0, 255}
    assert (arrays["density"] == arrays["density"][0]).all(), "whole columns go"
    value, _ = engine_process.ask("value", layer=layer, row=3, column=7, rule=rule)
    assert value["kept"] == bool(arrays["density"][3, 7])
    _, bars = engine_process.ask("histogram", layer=layer, rule=rule, bins=64)
    assert bars["all"].sum() == 32 * 288
    assert bars["kept"].sum() == 32 * 144


def test_a_job_that_waits_for_compiled_loops_says_so_and_is_cancelled_at_once(
    start: Callable[[], Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    engine = start()
    *_, opened = engine.job("open", address="sample:digits-resnet")
    assert opened["kind"] == "finished"
    job = engine.ask("start", job="measure", params={"batch": 1})[0]["job"]
    events = engine.events(job)
    assert [next(events)["kind"], next(events)["text"]] == ["started", WORDS]
    engine.ask("cancel", job=job)
    assert [event["kind"] for event in events] == ["cancelled"]
    assert engine.close() == 0


def test_errors_are_replies_and_the_engine_goes_on(engine_process: Engine) -> None:
    for method, params in [("nonsense", {}), ("tile", {"layer": "no"}), ("start", {"job": "x"})]:
        with pytest.raises(RuntimeError):
            engine_process.ask(method, **params)
    *_, failed = engine_process.job("open", address="nowhere.safetensors")
    assert failed["kind"] == "failed"
    assert failed["bad_input"]
    assert engine_process.ask("hello")[0]["protocol"] == VERSION


def test_a_run_answers_requests_meanwhile_and_cancels(
    engine_process: Engine, tmp_path: Path
) -> None:
    engine_process.job("open", address="sample:digits-resnet")
    plan = {"rules": [RULE], "schedule": "agp", "training": {"epochs": 1000}}
    number = engine_process.ask(
        "start", job="prune", params={"plan": plan, "out": str(tmp_path), "device": "cpu"}
    )[0]["job"]
    with pytest.raises(RuntimeError, match="busy"):
        engine_process.ask("start", job="open", params={"address": "sample:digits-vit"})
    events = engine_process.events(number)
    assert next(events)["kind"] == "started"
    while next(events)["kind"] != "masks":
        pass
    meta, _ = engine_process.ask(
        "tile", layer="fc", view="magnitude", rect=[0, 0, 10, 64], size=[10, 64], rule=None
    )
    assert meta["achieved"] >= 0
    engine_process.ask("pause", job=number)
    engine_process.ask("unpause", job=number)
    engine_process.ask("cancel", job=number)
    assert list(events)[-1]["kind"] == "cancelled"
    assert (tmp_path / "checkpoint.pt").exists()


def test_measuring_tells_each_cell_as_it_is_known_and_cancels(
    engine_process: Engine, tmp_path: Path
) -> None:
    engine_process.job("open", address="sample:digits-resnet")
    asked = {"batches": [1, 2], "layers": ["fc", "layer3.0.*"], "patterns": ["group"]}
    table = tmp_path / "table.json"
    *events, done = engine_process.job(
        "measure", **asked, sparsities=[0.5], dtypes=None, devices=["cpu"], steps=True,
        save=str(table),
    )  # fmt: skip
    cells = [event["values"] for event in events if event["kind"] == "layer"]
    assert cells == done["result"]["cells"]  # one sparsity: no crossover comes later
    assert {(cell["layer"], cell["batch"]) for cell in cells} == {
        (layer, batch)
        for layer in ("fc", "layer3.0.conv1", "layer3.0.conv2", "layer3.0.downsample.0")
        for batch in (1, 2)
    }
    assert all(cell["steps"] and cell["verdict"]["words"] for cell in cells)
    assert done["result"]["table"] == str(table)
    assert table.exists()

    number = engine_process.ask("start", job="measure", params={"fresh": True})[0]["job"]
    events = engine_process.events(number)
    while next(events)["kind"] != "layer":
        pass
    engine_process.ask("cancel", job=number)
    *others, last = events
    assert last["kind"] == "cancelled"
    assert sum(event["kind"] == "layer" for event in others) <= 3


def test_patterns_are_tried_on_the_weights_as_they_were_opened(
    engine_process: Engine, tmp_path: Path
) -> None:
    engine_process.job("open", address="sample:digits-resnet")
    layer = "layer3.0.conv2"
    plan = {"rules": [{"layers": layer, "pattern": "group", "sparsity": 0.75}],
            "training": {"epochs": 1}}  # fmt: skip
    assert engine_process.job("prune", plan=plan, out=str(tmp_path))[-1]["kind"] == "finished"
    done = engine_process.job(
        "measure", layers=[layer], patterns=["element"], sparsities=[0.1], every=True, fresh=True
    )[-1]
    (cell,) = done["result"]["cells"]
    paths = {cell["ran"], *(row["path"] for row in cell["tried"])}
    assert paths, "something ran"
    assert not any("grouped" in path for path in paths), "the run's columns are not cut here"


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"devices": ["cpu", "gpu"]}, "unknown device 'gpu'"),
        ({"batches": [0]}, "batch must be at least 1"),
        ({"dtypes": ["int8"]}, "unknown dtype 'int8'"),
        ({"save": "/no/such/folder/table.json"}, "no such folder"),
    ],
)
def test_a_measurement_that_cannot_be_asked_for_fails_at_once(
    engine_process: Engine, params: dict[str, Any], words: str
) -> None:
    engine_process.job("open", address="sample:digits-resnet")
    (failed,) = engine_process.job("measure", **params)
    assert (failed["kind"], failed["bad_input"]) == ("failed", True)
    assert words in failed["message"]


def test_a_killed_run_resumes_to_the_same_masks(
    start: Callable[[], Engine], tmp_path: Path
) -> None:
    plan = {
        "rules": [RULE],
        "schedule": {"kind": "agp", "every": 5},
        "training": {"epochs": 5, "lr": 0.02},
    }
    whole, broken = start(), start()
    whole.job("open", address="sample:digits-resnet")
    assert whole.job("prune", plan=plan, out=str(tmp_path / "whole"))[-1]["kind"] == "finished"
    broken.job("open", address="sample:digits-resnet")
    folder = tmp_path / "broken"
    number = broken.ask("start", job="prune", params={"plan": plan, "out": str(folder)})[0]["job"]
    for event in broken.events(number):
        if event["kind"] == "masks" and event["step"] == 40:
            broken.ask("cancel", job=number)
    os.kill(broken.process.pid, signal.SIGKILL)
    with pytest.raises((EOFError, BrokenPipeError)):
        broken.ask("hello")
    fresh = start()
    fresh.job("open", address="sample:digits-resnet")
    last = fresh.job("prune", plan=plan, out=str(folder), resume=True)[-1]
    assert last["kind"] == "finished"
    assert fresh.close() == 0
    assert whole.close() == 0
    first, second = (Masks.load(tmp_path / n / "masks.safetensors") for n in ("whole", "broken"))
    assert all((first.layers[path] == mask).all() for path, mask in second.layers.items())
    assert not (folder / "checkpoint.pt").exists()


def test_prints_of_libraries_do_not_reach_the_stream(
    start: Callable[[], Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noisy.py").write_text(
        "import os\nprint('hello')\nos.write(1, b'raw')\n"
        "def make():\n    import torch\n    print('more')\n    return torch.nn.Linear(2, 2)\n"
    )
    from safetensors.torch import save_file
    from torch import nn

    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "m.safetensors")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    engine = start()
    last = engine.job("open", address=str(tmp_path / "m.safetensors"), arch="noisy:make")[-1]
    assert last["kind"] == "finished", last
    assert engine.close() == 0


def test_the_engine_leaves_when_the_studio_does(
    start: Callable[[], Engine], tmp_path: Path
) -> None:
    engine = start()
    engine.job("open", address="sample:digits-resnet")
    plan = {"rules": [RULE], "schedule": "agp", "training": {"epochs": 1000}}
    engine.ask("start", job="prune", params={"plan": plan, "out": str(tmp_path)})
    started = time.monotonic()
    assert engine.close() == 0
    assert time.monotonic() - started < 10
