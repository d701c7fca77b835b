"""Ctrl+C on the command line, and SIGTERM, by which containers and job queues end a process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .control import Control


class StoppedHalfway(KeyboardInterrupt):
    """Ctrl+C after a part was done: `result` holds it, `text` too; the message says where else."""

    def __init__(self, message: str, result: dict[str, Any], text: str) -> None:
        super().__init__(message)
        self.result = result
        self.text = text


@contextmanager
def interrupt_cancels(control: Control) -> Iterator[None]:
    """The first Ctrl+C or SIGTERM lets a run save its checkpoint and end; the second kills it."""

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def cancel(number: int, frame: object) -> None:
        restore()
        control.cancel()

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it is interrupted
        return
    before = {number: signal.signal(number, cancel) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()
