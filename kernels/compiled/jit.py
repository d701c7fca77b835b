"""Loops compiled for this processor, kept on disk, and shared out among threads.

Modules of compiled loops import numba, so that they are imported only inside the functions that
need them, and only if `ready`. Without numba every operation has a path through torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from threading import Thread
from typing import Any, TypeVar

import torch

from .cache import loops_folder

Loop = TypeVar("Loop", bound=Callable[..., Any])


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

    There are no more than torch's number of threads, of which this one is the first. A thread costs
    about 40 microseconds; compiled loops cannot use torch's own.
    """
    threads = max(1, min(torch.get_num_threads(), most, count))
    each = max(1, -(-count // threads))
    parts = [(first, min(first + each, count)) for first in range(0, count, each)]
    failed: list[BaseException] = []

    def other(first: int, end: int) -> None:
        try:
            work(first, end)
        except BaseException as error:
            failed.append(error)

    others = [Thread(target=other, args=part) for part in parts[1:]]
    for thread in others:
        thread.start()
    for part in parts[:1]:
        other(*part)
    for thread in others:
        thread.join()
    if failed:
        raise failed[0]
