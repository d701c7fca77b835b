from __future__ import annotations

import os
import time
from threading import Barrier, Thread

import pytest
import torch

from secateur.kernels.compiled.jit import share


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def shared(count: int, most: int) -> list[int]:
    seen: list[int] = []
    share(lambda first, end: seen.extend(range(first, end)), count, most)
    return sorted(seen)


@pytest.mark.parametrize(("count", "most"), [(0, 2), (1, 2), (7, 0), (7, 2), (1000, 9)])
def test_shares_cover_all_once(count, most):
    assert shared(count, most) == list(range(count))


def meet() -> None:
    """Fail unless two threads work at the same time."""
    both = Barrier(2, timeout=10)

    def work(first: int, end: int) -> None:
        both.wait()

    share(work, 2, 2)


def test_two_threads_work_at_once():
    meet()


def test_several_callers_share_the_same_threads():
    found: list[list[int]] = []
    callers = [Thread(target=lambda: found.append(shared(5000, 2))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [list(range(5000))] * 8


@pytest.mark.parametrize("at", [0, 9])
def test_what_fails_in_a_thread_fails(at):
    def work(first: int, end: int) -> None:
        time.sleep(0.01)  # so that both threads come to it
        if first <= at < end:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        share(work, 10, 4)
    assert shared(10, 2) == list(range(10))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    meet()
    child = os.fork()
    if not child:
        status = 1
        try:
            meet()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
