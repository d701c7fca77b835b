"""Tells an engine that died once from one that dies again and again."""

from __future__ import annotations

import time

_MOST = 3
_SECONDS = 60.0


class CrashGuard:
    """Counts deaths; three within a minute are too many for another try without the person."""

    def __init__(self) -> None:
        self._deaths: list[float] = []

    def too_many(self) -> bool:
        """Count one death now, and say whether it is one too many."""
        now = time.monotonic()
        self._deaths = [t for t in self._deaths if now - t < _SECONDS] + [now]
        return len(self._deaths) >= _MOST

    def clear(self) -> None:
        """The person asked for another try."""
        self._deaths.clear()
