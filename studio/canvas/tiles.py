"""Asking the engine for pictures: latest wins, one question under way, at most 30 a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PySide6.QtCore import QElapsedTimer, QObject, QTimer, Signal
from shiboken6 import isValid

from ...engine.plan import Plan, Rule
from ..state.client import EngineClient

FRAME_MS = 33
Json = dict[str, Any]
Rect = tuple[int, int, int, int]


@dataclass(frozen=True)
class Tile:
    """A picture as the engine gave it: what was asked, the summary, and uint8 [h, w] arrays."""

    asked: Json
    meta: Json
    value: np.ndarray = field(repr=False)
    density: np.ndarray = field(repr=False)

    @property
    def layer(self) -> str:
        """The layer's path."""
        return str(self.asked["layer"])

    @property
    def rect(self) -> Rect:
        """(top, left, bottom, right) in cells."""
        top, left, bottom, right = self.asked["rect"]
        return top, left, bottom, right


def rule_json(rule: Rule) -> Json:
    """A rule as a plan file writes it."""
    written: Json = Plan(rules=(rule,)).to_json()["rules"][0]
    return written


class Asker(QObject):
    """Sends the newest of its questions as soon as the one before is answered.

    Answers to questions that a newer one has replaced still arrive, so that a slider that never
    rests is followed; each comes with what was asked.
    """

    answered = Signal(dict, dict, dict)
    failed = Signal(str)

    def __init__(self, client: EngineClient, method: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._client = client
        self._method = method
        self._next: Json | None = None
        self._asked: Json | None = None
        self._clock = QElapsedTimer()
        self._wait = QTimer(self, singleShot=True)
        self._wait.timeout.connect(self._send)

    @property
    def idle(self) -> bool:
        """Whether nothing is asked or about to be."""
        return self._asked is None and self._next is None

    def ask(self, params: Json) -> None:
        """Ask this; forget a question that has not been sent yet."""
        if params == self._asked:
            self._next = None
            return
        self._next = params
        self._send()

    def forget(self) -> None:
        """Take back the question that has not been sent yet."""
        self._next = None

    def _send(self) -> None:
        if self._asked is not None or self._next is None or self._wait.isActive():
            return
        if self._clock.isValid() and self._clock.elapsed() < FRAME_MS:
            self._wait.start(FRAME_MS - self._clock.elapsed())
            return
        asked, self._next = self._next, None
        self._asked = asked
        self._clock.start()

        def answer(meta: Json, arrays: dict[str, np.ndarray]) -> None:
            if not isValid(self):
                return  # the window is gone, the engine was still at it
            self._asked = None
            self.answered.emit(asked, meta, arrays)
            self._send()

        def refuse(message: str) -> None:
            if not isValid(self):
                return
            self._asked = None
            self.failed.emit(message)
            self._send()

        self._client.request(self._method, asked, answer, refuse)


def tiles(client: EngineClient, parent: QObject, show: Callable[[Tile], None]) -> Asker:
    """An asker for tiles that hands each to `show`."""
    asker = Asker(client, "tile", parent)
    asker.answered.connect(
        lambda asked, meta, arrays: show(Tile(asked, meta, arrays["value"], arrays["density"]))
    )
    return asker
