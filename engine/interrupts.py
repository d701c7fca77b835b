"""Ctrl+C on the command line."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .control import Control


@contextmanager
def interrupt_cancels(control: Control) -> Iterator[None]:
    """The first Ctrl+C lets a run save its checkpoint and end; the second one ends it at once."""

    def cancel(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        control.cancel()

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it is interrupted
        return
    before = signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
