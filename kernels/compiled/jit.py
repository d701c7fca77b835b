"""Loops compiled for this processor, kept on disk, and shared out among threads.

Modules of compiled loops import numba, so that they are imported only inside the functions that
need them, and only if `ready`. Without numba every operation has a path through torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

import torch

from .cache import loops_folder

Loop = TypeVar("Loop", bound=Callable[..., Any])
# Parts that a thread would get if all took the same time.
_PARTS = 4


@cache
def ready() -> bool:
    """Whether loops can be compiled here: numba is there, and made for the NumPy that is there."""
    return compiler() is not None


@cache
def compiler() -> str | None:
    """The version of numba, None where it cannot be used."""
    try:
        return str(import_module("numba").__version__)
    except ImportError:
        return None


def compiled(signature: str | None = None) -> Callable[[Loop], Loop]:
    """Compile a function, or load it from this person's cache: at once if its signature is given.

    One without is compiled into those that call it. It runs without the interpreter's lock and
    divides without asking for zeros.
    """
    import numba

    folder = loops_folder()
    options = {"nogil": True, "error_model": "numpy", "cache": folder is not None}

    def make(loop: Loop) -> Loop:
        others, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder or "")
        try:
            made: Loop = numba.njit(signature, **options)(loop)
        finally:
            numba.config.CACHE_DIR = others
        return made

    return make


def share(work: Callable[[int, int], None], count: int, most: int) -> None:
    """Call `work(first, end)` for parts that cover 0 to `count`, in at most `most` threads at once.

    There are no more than torch's number of threads, of which this one is the first. Each takes a
    part after the other, so that one that wakes late, or has long rows, does fewer. The others wait
    for work from one call to the next: waking one takes some 40 microseconds, starting one twice
    that. Compiled loops cannot use torch's own.
    """
    threads = max(1, min(torch.get_num_threads(), most, count))
    if threads == 1:
        work(0, count)
        return
    each = -(-count // (threads * _PARTS))
    parts = SimpleQueue[int]()
    for first in range(0, count, each):
        parts.put(first)
    failed: list[BaseException] = []

    def some() -> None:
        try:
            with suppress(Empty):
                while True:
                    first = parts.get_nowait()
                    work(first, min(first + each, count))
        except BaseException as error:
            failed.append(error)

    helpers = [_Help(some) for _ in range(threads - 1)]
    for helper in helpers:
        _waiting(torch.get_num_threads() - 1).put(helper)
    some()
    for helper in helpers:
        helper.finish()
    if failed:
        raise failed[0]


class _Help:
    """A call that another thread makes, unless all is done before that comes to it."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._taken, self._done = Lock(), Lock()
        self._done.acquire()

    def give(self) -> None:
        """In the other thread."""
        if self._taken.acquire(blocking=False):
            self._call()
            self._done.release()

    def finish(self) -> None:
        """Wait for the call, if it was begun."""
        if not self._taken.acquire(blocking=False):
            self._done.acquire()


@cache
def _waiting(count: int) -> SimpleQueue[_Help]:
    """What `count` threads take their work from; they are there until the process ends."""
    work = SimpleQueue[_Help]()

    def serve() -> None:
        while True:
            work.get().give()  # and keep nothing of it while waiting

    for _ in range(count):
        Thread(target=serve, name="compiled loops", daemon=True).start()
    return work


if hasattr(os, "register_at_fork"):
    # The threads stay with the parent: a child starts its own.
    os.register_at_fork(after_in_child=_waiting.cache_clear)
