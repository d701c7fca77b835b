"""A busy machine is told from a quiet one, with timers that are as noisy as each case says."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.kernels.dispatch import noise
from secateur.kernels.dispatch.memory import Memory
from secateur.kernels.dispatch.noise import Watch, in_doubt
from secateur.kernels.dispatch.race import DENSE, Form
from secateur.kernels.dispatch.stopwatch import Answer, Parts, Stopwatch
from secateur.kernels.dispatch.timing import Timing

CPU = torch.device("cpu")


def around(ms: float, share: float) -> Timing:
    return Timing(ms, ms * (1 - share / 2), ms * (1 + share / 2), 9)


@pytest.mark.parametrize(
    ("dense", "other", "disturbed", "doubt"),
    [
        (around(10, 0.05), around(9.8, 0.05), False, False),  # a quiet tie is a tie
        (around(10, 0.5), around(8, 0.5), False, True),
        (around(10, 0.5), around(3, 0.5), False, False),  # noise, but no doubt
        (around(10, 0.05), around(9.8, 0.05), True, True),  # steady load hides in small spreads
        (around(10, 0.05), around(5, 0.05), True, False),
        (around(10, 0.5), around(40, 0.5), False, False),  # clearly slower
    ],
)
def test_doubt_needs_noise_and_overlapping_quartiles(dense, other, disturbed, doubt):
    lost = around(100, 3.0)  # what lost far behind does not matter, however noisy
    assert in_doubt({DENSE: dense, "other": other, "lost": lost}, DENSE, disturbed) is doubt


def test_dense_alone_is_compared_with_nothing():
    assert not in_doubt({DENSE: around(10, 0.9)}, DENSE, True)


class Waits(nn.Module):
    """Takes the same time at each call."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self._seconds)
        return x


class Jumpy(nn.Module):
    """Takes a short or a long time, in turn: what other programs do to a call."""

    def __init__(self) -> None:
        super().__init__()
        self._waits = itertools.cycle([0.001, 0.001, 0.008, 0.008, 0.001])
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        time.sleep(next(self._waits))
        return x


def test_a_race_in_doubt_is_held_twice_claims_nothing_and_is_not_remembered(tmp_path: Path):
    memory = Memory(tmp_path)
    modules = {DENSE: Jumpy(), "sparse": Jumpy()}
    forms = [Form(path, module, (torch.ones(1),), {}) for path, module in modules.items()]
    stopwatch = Stopwatch(memory, seconds=0.01)
    answer = stopwatch.answer({"of": "this"}, ["sparse"], lambda: forms, CPU)
    assert answer.doubtful
    assert answer.winner == DENSE
    assert memory.get({"of": "this"}) is None
    # At least one to warm up and four rounds each time.
    assert modules[DENSE].calls >= 2 * 5


def test_the_fixed_work_is_compared_with_the_fastest_it_ever_was(tmp_path, monkeypatch):
    took = iter([2.0, 4.0, 1.0, 3.0])
    monkeypatch.setattr(noise, "fixed_work", lambda device: next(took))
    memory = Memory(tmp_path)
    found = [noise.slowdown(CPU, memory) for _ in range(3)]
    assert found == [1.0, 2.0, 1.0]
    assert noise.slowdown(CPU, Memory(tmp_path)) == 3.0


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="Linux tells")
def test_threads_that_are_kept_waiting_are_noticed():
    """Twice as many busy threads as there are cores: some of them always wait."""
    watch, end = Watch(CPU, Memory(None)), time.perf_counter() + 0.5
    count = 2 * len(os.sched_getaffinity(0))

    def work() -> None:
        while time.perf_counter() < end:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 20_000)  # without Python's lock

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(0.4)
    assert watch.disturbed()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("after", "slowdowns", "disturbed"),
    [
        ({"1": (1005, 25)}, [1.0, 1.1], False),
        ({"1": (1005, 305)}, [1.0, 1.0], True),
        ({"1": (1005, 5), "3": (100, 300)}, [1.0, 1.0], True),  # a new thread counts whole
        ({"1": (1005, 5)}, [1.0, 1.0], False),  # one that has ended counts for nothing
        ({}, [1.0, 1.0], False),  # the system does not say
        ({}, [1.0, 2.0], True),
        ({}, [2.0, 1.0], True),
    ],
)
def test_what_disturbs(monkeypatch, after, slowdowns, disturbed):
    read, slowed = iter([{"1": (5, 5), "2": (5000, 5000)}, after]), iter(slowdowns)
    monkeypatch.setattr(noise, "_threads", lambda: next(read))
    monkeypatch.setattr(noise, "slowdown", lambda device, memory: next(slowed))
    assert Watch(CPU, Memory(None)).disturbed() is disturbed


def test_a_disturbed_answer_is_remembered_but_not_exact_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(noise.Watch, "disturbed", lambda self: True)
    slow, fast = Waits(0.02), Waits(0.001)
    forms = [Form(DENSE, slow, (torch.ones(1),), {}), Form("sparse", fast, (torch.ones(1),), {})]

    def ask(exact: bool) -> Answer:
        stopwatch = Stopwatch(Memory(tmp_path), seconds=0.01, exact=exact)
        return stopwatch.answer({"of": "this"}, ["sparse"], lambda: forms, CPU)

    first = ask(exact=True)
    assert (first.winner, first.disturbed, first.doubtful) == ("sparse", True, False)
    assert not ask(exact=True).remembered
    again = ask(exact=False)
    assert again.remembered
    assert again.disturbed


def test_steps_of_a_busy_machine_are_timed_again_and_are_not_exact_enough(tmp_path, monkeypatch):
    busy, calls = [True], []
    monkeypatch.setattr(noise.Watch, "disturbed", lambda self: busy[0])
    steps = [("gather", lambda: calls.append(1)), ("multiply", lambda: None)]

    def ask(exact: bool) -> tuple[Parts, bool]:
        """What is said, and whether anything was timed for it."""
        calls.clear()
        stopwatch = Stopwatch(Memory(tmp_path), seconds=0.01, exact=exact)
        return stopwatch.parts({"steps": "of this"}, lambda: steps, CPU), bool(calls)

    found, timed = ask(exact=True)
    assert (set(found.ms), found.disturbed, timed) == ({"gather", "multiply"}, True, True)
    assert ask(exact=False) == (found, False)
    assert ask(exact=True)[1]
    busy[0] = False
    quiet, timed = ask(exact=True)
    assert (quiet.disturbed, timed) == (False, True)
    assert ask(exact=True) == (quiet, False)


def test_the_fixed_work_takes_time():
    assert 0 < noise.slowdown(CPU, Memory(None)) <= 1
