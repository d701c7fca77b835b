"""The engine's life: a fresh one where one died, but not again and again."""

from __future__ import annotations

from PySide6.QtCore import QObject, Signal

from .client import EngineClient
from .crash_guard import CrashGuard
from .faults import Faults


class EngineLife(QObject):
    """Watches the client's engine and tells what happened to it.

    `gone` carries why an engine has gone, and with it all that it held; `fresh` says that another
    one starts, which has no model yet.
    """

    gone = Signal(str)
    fresh = Signal()

    def __init__(self, client: EngineClient, faults: Faults, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._client, self._faults = client, faults
        self._crashes = CrashGuard()
        self._was_ready = client.state == "ready"
        client.state_changed.connect(self._state_changed)
        client.died.connect(self._died)
        client.faulted.connect(self._faulted)

    def restart(self) -> None:
        """Give the person another engine, whatever became of the ones before."""
        self._crashes.clear()
        self._faults.details.clear()
        self.gone.emit("The engine was restarted.")
        self._client.restart()
        self.fresh.emit()

    def _state_changed(self, state: str) -> None:
        self._was_ready = self._was_ready or state == "ready"

    def _died(self, reason: str) -> None:
        was_ready, self._was_ready = self._was_ready, False
        self.gone.emit(reason)
        if not was_ready or self._crashes.too_many():
            self._faults.tell(f"{reason} The plan is safe.", self._client.last_words)
            return
        self._client.start()
        self.fresh.emit()
        text = f"{reason} It was restarted; the plan is as you left it."
        self._faults.tell(text, self._client.last_words)

    def _faulted(self, message: str) -> None:
        self._faults.tell_once((*self._client.stderr, message))
