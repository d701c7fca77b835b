"""A busy machine is told from a quiet one, with timers that are as noisy as each case says."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.kernels.dispatch import noise
from secateur.kernels.dispatch.memory import Memory
from secateur.kernels.dispatch.noise import in_doubt
from secateur.kernels.dispatch.race import DENSE, Form
from secateur.kernels.dispatch.stopwatch import Stopwatch
from secateur.kernels.dispatch.timing import Timing

CPU = torch.device("cpu")


def around(ms: float, share: float) -> Timing:
    return Timing(ms, ms * (1 - share / 2), ms * (1 + share / 2), 9)


@pytest.mark.parametrize(
    ("dense", "other", "slowdown", "doubt"),
    [
        (around(10, 0.05), around(9.8, 0.05), 1.0, False),  # a quiet tie is a tie
        (around(10, 0.5), around(8, 0.5), 1.0, True),
        (around(10, 0.5), around(3, 0.5), 1.0, False),  # noise, but no doubt
        (around(10, 0.05), around(9.8, 0.05), 2.0, True),  # steady load hides in small spreads
        (around(10, 0.05), around(5, 0.05), 2.0, False),
        (around(10, 0.5), around(40, 0.5), 1.0, False),  # clearly slower
    ],
)
def test_doubt_needs_noise_and_overlapping_quartiles(dense, other, slowdown, doubt):
    lost = around(100, 3.0)  # what lost far behind does not matter, however noisy
    assert in_doubt({DENSE: dense, "other": other, "lost": lost}, DENSE, slowdown) is doubt


def test_dense_alone_is_in_doubt_when_it_is_noisy():
    assert in_doubt({DENSE: around(10, 0.5)}, DENSE, 1.0)
    assert not in_doubt({DENSE: around(10, 0.1)}, DENSE, 1.0)


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


def test_the_fixed_work_takes_time():
    assert 0 < noise.slowdown(CPU, Memory(None)) <= 1
