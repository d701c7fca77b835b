"""Loops are compiled ahead by a process of their own, and whoever waits for it can stop waiting."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from secateur.engine import compiled_loops
from secateur.engine.compiled_loops import WORDS, CompiledLoops, used_by, with_loops
from secateur.engine.control import Control
from secateur.engine.errors import BadInput
from secateur.engine.events import Event, Finished, Progress, Started
from secateur.engine.plan import Plan
from secateur.kernels.compiled import ahead, cache

JOB = [Started("a job"), Finished({})]
PREPARE = [sys.executable, "-m", "secateur.engine", "engine", "--prepare"]


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """A machine where nothing is compiled yet."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    cache.loops_folder.cache_clear()
    yield tmp_path
    cache.loops_folder.cache_clear()


def kept(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.nbc")}


def test_all_loops_are_kept_and_nothing_is_compiled_after_that():
    folder = cache.loops_folder()
    assert folder is not None
    (folder / "filled").unlink(missing_ok=True)
    assert not ahead.filled()
    subprocess.run(PREPARE, check=True, capture_output=True)
    assert ahead.filled()
    before = kept(folder)
    for module in ("sparse", "n_of_m", "topology", "conv"):
        assert any(module in name for name in before)
    code = f"from {ahead.__name__} import fill; fill()"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert kept(folder) == before


def test_where_all_is_kept_no_process_is_started_and_nothing_is_said():
    folder = cache.loops_folder()
    assert folder is not None
    (folder / "filled").touch()
    assert list(with_loops(JOB, lambda: False)) == JOB


def test_waiting_says_why_and_ends_when_it_is_cancelled(empty):
    control = Control()
    events = with_loops(JOB, control.cancelled)
    assert [next(events), next(events)] == [JOB[0], Progress(0, 0, WORDS)]
    control.cancel()
    assert list(events) == [JOB[1]], "the job itself knows what to do then"
    assert not ahead.filled()


def test_a_process_that_fails_is_no_reason_to_fail_or_to_wait(empty, monkeypatch):
    monkeypatch.setattr(compiled_loops, "_command", lambda: [sys.executable, "-c", "exit(3)"])
    loops = CompiledLoops()
    said = list(loops.ahead_of(JOB, lambda: False))
    assert said == [JOB[0], Progress(0, 0, WORDS), JOB[1]]
    assert list(loops.ahead_of(JOB, lambda: False)) == JOB  # it is not tried again
    loops.stop()


@pytest.mark.parametrize(
    ("plan", "used"),
    [
        ({"rules": [{"layers": "*", "pattern": "element", "sparsity": 0.5}]}, False),
        ({"rules": [{"layers": "*", "pattern": "nm:2:4"}]}, True),
        ({"rules": [], "schedule": "sparse-training", "training": {"epochs": 1}}, True),
    ],
)
def test_only_runs_that_use_loops_wait_for_them(plan, used):
    assert used_by(Plan.from_json(plan)) is used


def test_a_folder_that_cannot_be_written_is_not_prepared(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    cache.loops_folder.cache_clear()
    assert ahead.filled()
    cache.loops_folder.cache_clear()


def test_a_job_that_cannot_be_done_does_not_wait(empty):
    def refused() -> Iterator[Event]:
        raise BadInput("no")
        yield

    with pytest.raises(BadInput):
        next(with_loops(refused(), lambda: False))
    assert kept(empty) == set()


def test_ctrl_c_while_loops_are_prepared_stops_a_command(empty):
    command = [sys.executable, "-m", "secateur.engine", "measure", "sample:digits-resnet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not (preparing := psutil.Process(process.pid).children()):
            assert process.poll() is None, "it did not prepare"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, b"")
    assert err.splitlines()[-1] == b"secateur: stopped"
    assert not any(child.is_running() for child in preparing)


def test_importing_the_cache_of_loops_loads_neither_torch_nor_numba():
    code = (
        "import sys, secateur.kernels.compiled.ahead, secateur.engine.compiled_loops;"
        "assert not {'torch', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
