"""When a long run says how far it is, and when it saves a checkpoint."""

from __future__ import annotations

import time

_SECONDS_BETWEEN_CHECKPOINTS = 5.0


class Clock:
    """Of a run from `step` to `total`: what is due, and how long the rest will take."""

    def __init__(self, step: int, total: int) -> None:
        self._first, self._total = step, total
        self._start = self._shown = time.monotonic()
        # The first one soon: a crash in the first seconds should not cost them either.
        self._saved = self._start - _SECONDS_BETWEEN_CHECKPOINTS + 1.0

    def due(self) -> bool:
        """Whether progress is to be shown now."""
        now = time.monotonic()
        if now - self._shown < 0.1:
            return False
        self._shown = now
        return True

    def checkpoint_due(self) -> bool:
        """Whether a checkpoint is to be saved now."""
        now = time.monotonic()
        if now - self._saved < _SECONDS_BETWEEN_CHECKPOINTS:
            return False
        self._saved = now
        return True

    def left(self, step: int) -> float:
        """Seconds that the steps after `step` will take."""
        spent = time.monotonic() - self._start
        return round(spent / max(1, step - self._first) * (self._total - step), 1)
