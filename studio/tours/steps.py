"""What all steps of the tour share: the window, hands on it, and how a step says what it sees."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from ..window import MainWindow
from .tour_driver import Driver, TourError

PLAIN = Qt.KeyboardModifier.NoModifier


class Steps:
    """Base of the steps; `step` names the one under way, `faults` are errors that came up."""

    def __init__(self, window: MainWindow, out: Path) -> None:
        self.window, self.session, self.out = window, window.session, out
        session = self.session
        self.driver = Driver(
            window, lambda: session.client.pending == 0 and session.engine_state == "ready", out
        )
        self.step = "start"
        self.faults: list[str] = []
        session.notice.connect(self._noticed)

    def _noticed(self, text: str, level: str) -> None:
        if level == "error":
            self.faults.append(text)

    def _see(self, true: bool, what: str) -> None:
        if not true:
            raise TourError(f"not so: {what}")

    def _key(self, keys: str) -> None:
        self.driver.activate()
        focus: QWidget = QApplication.focusWidget() or self.window
        QTest.keySequence(focus, QKeySequence(keys))
        self.driver.rest(60)

    def _click_layer(self, path: str, keys: Qt.KeyboardModifier = PLAIN) -> None:
        tree = self.window.layers.tree
        index = tree.filter.mapFromSource(tree.layers.index_of(path))
        if not index.isValid():
            raise TourError(f"{path} is not in the tree")
        tree.scrollTo(index)
        self.driver.click(tree.viewport(), tree.visualRect(index).center(), keys)
        self.driver.rest(60)
