"""What went wrong, said once, with the lines behind it."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import QObject, Signal

from ...engine import events
from .client import FAULT


class Faults(QObject):
    """`details` are the lines behind a notice, by its text."""

    notice = Signal(str, str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.details: dict[str, tuple[str, ...]] = {}

    def tell(self, text: str, lines: Iterable[str]) -> None:
        """Say what went wrong; `lines` are shown on demand."""
        self.details[text] = tuple(lines)
        self.notice.emit(text, "error")

    def tell_failure(self, event: events.Failed) -> None:
        """Say why a job failed."""
        if event.detail:
            self.tell(FAULT, event.detail.splitlines())
        else:
            self.notice.emit(event.message, "error")

    def tell_once(self, lines: Iterable[str]) -> None:
        """A question met a fault of the engine's: said once, though many panels ask."""
        lines = tuple(lines)
        if self.details.get(FAULT, ())[-1:] != lines[-1:]:
            self.tell(FAULT, lines)
