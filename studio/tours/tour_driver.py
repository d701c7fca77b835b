"""Hands and eyes for the tour: real clicks and keys on the real window, waits with deadlines."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PySide6.QtCore import QPoint, Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QApplication,
    QComboBox,
    QMenu,
    QScrollArea,
    QSlider,
    QTabBar,
    QToolButton,
    QWidget,
)

W = TypeVar("W", bound=QWidget)
_LEFT = Qt.MouseButton.LeftButton
_NONE = Qt.KeyboardModifier.NoModifier


class TourError(Exception):
    """A step was not seen to be true; the message is one line."""


class Driver:
    """Finds widgets by object name and treats them as a person would."""

    def __init__(self, window: QWidget, idle: Callable[[], bool], out: Path) -> None:
        self.window = window
        self._idle = idle
        self._out = out
        self.pictures: list[Path] = []

    def find_kind(self, name: str, kind: type[W]) -> W:
        """The visible widget called `name`, in the window or a dialog of it."""
        for top in (self.window, *QApplication.topLevelWidgets()):
            for found in (top, *top.findChildren(QWidget, name)):
                if found.objectName() == name and isinstance(found, kind) and found.isVisible():
                    return found
        raise TourError(f"no visible widget is called {name}")

    def find(self, name: str) -> QWidget:
        """The visible widget called `name`, whatever it is."""
        return self.find_kind(name, QWidget)

    def click(
        self, widget: QWidget, place: QPoint | None = None, keys: Qt.KeyboardModifier = _NONE
    ) -> None:
        """Click into the middle of a widget, or at `place` in it, once it is in sight."""
        self.bring_into_sight(widget)
        place = place or widget.rect().center()
        top = widget.window()
        under = top.childAt(widget.mapTo(top, place))
        if under is None or not (under is widget or widget.isAncestorOf(under)):
            covered = under.objectName() or type(under).__name__ if under else "nothing"
            raise TourError(f"{widget.objectName()} can't be clicked: {covered} lies there")
        if not widget.isEnabled():
            raise TourError(f"{widget.objectName()} is disabled: {widget.toolTip()}")
        QTest.mouseMove(widget, place)
        QTest.mouseClick(widget, _LEFT, keys, place)
        self.rest(30)

    def click_name(self, name: str) -> None:
        """Click the widget called `name`."""
        self.click(self.find(name))

    def bring_into_sight(self, widget: QWidget) -> None:
        """Scroll until the widget shows."""
        above = widget.parentWidget()
        while above is not None:
            if isinstance(above, QScrollArea):
                above.ensureWidgetVisible(widget, 20, 20)
                self.rest(20)
            above = above.parentWidget()

    def keys(self, widget: QWidget, text: str) -> None:
        """Type into a widget."""
        QTest.keyClicks(widget, text)
        self.rest(30)

    def press(self, widget: QWidget, key: Qt.Key, modifiers: Qt.KeyboardModifier = _NONE) -> None:
        """Press one key, with modifiers."""
        QTest.keyClick(widget, key, modifiers)
        self.rest(30)

    def choose(self, name: str, data: object) -> None:
        """Choose an entry of a list by arrow keys."""
        box = self.find_kind(name, QComboBox)
        self.click(box)
        self.press(box.view(), Qt.Key.Key_Home)
        for _ in range(box.findData(data)):
            self.press(box.view(), Qt.Key.Key_Down)
        self.press(box.view(), Qt.Key.Key_Return)
        if box.currentData() != data:
            raise TourError(f"{name} shows {box.currentText()}, not {data}")

    def pick(self, name: str, text: str) -> None:
        """Open the menu of a button and click the entry that says `text`."""
        button = self.find_kind(name, QToolButton)

        def choose() -> None:
            menu = QApplication.activePopupWidget()
            if isinstance(menu, QMenu):
                for action in menu.actions():
                    if action.text() == text:
                        QTest.mouseClick(menu, _LEFT, _NONE, menu.actionGeometry(action).center())
                        return
                menu.close()

        # The menu has an event loop of its own until something in it is clicked.
        QTimer.singleShot(150, button, choose)
        self.click(button)
        if button.text() != text:
            raise TourError(f"{name} shows {button.text()}, not {text}")

    def drag_slider(self, name: str, share: float, steps: int = 12) -> None:
        """Take a horizontal slider by its handle and move it to `share` of its range."""
        slider = self.find_kind(name, QSlider)
        self.bring_into_sight(slider)
        low, high = slider.minimum(), slider.maximum()
        room, middle = slider.width() - 16, slider.height() // 2

        def at(value: float) -> QPoint:
            return QPoint(round(8 + room * (value - low) / (high - low)), middle)

        start, end = slider.value(), low + share * (high - low)
        QTest.mousePress(slider, _LEFT, _NONE, at(start))
        for step in range(1, steps + 1):
            QTest.mouseMove(slider, at(start + (end - start) * step / steps))
            self.rest(25)
        QTest.mouseRelease(slider, _LEFT, _NONE, at(end))
        self.rest(60)

    def tab(self, name: str, title: str) -> None:
        """Click the tab called `title` of a tab bar."""
        bar = self.find_kind(name, QTabBar)
        titles = [bar.tabText(number) for number in range(bar.count())]
        if title not in titles:
            raise TourError(f"{name} has no tab {title}: {', '.join(titles)}")
        self.click(bar, bar.tabRect(titles.index(title)).center())

    def wait(self, what: str, condition: Callable[[], object], seconds: float = 30) -> None:
        """Let the window live until `condition` holds; raise TourError after `seconds`."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TourError(f"not seen within {seconds:g} s: {what}")
            QTest.qWait(15)

    def activate(self) -> None:
        """Bring the window to the front, so that its shortcuts are heard."""
        self.window.activateWindow()
        self.wait("the window is active", lambda: QApplication.activeWindow() is self.window, 5)

    def rest(self, milliseconds: int) -> None:
        """Let the window live for a while."""
        QTest.qWait(milliseconds)

    def settle(self) -> None:
        """Wait until the engine has answered everything and the window has painted it."""
        for _ in range(3):
            self.wait("the engine answers", self._idle)
            self.rest(60)

    def shoot(self, name: str, dialog: QWidget | None = None, settle: bool = True) -> None:
        """Save a picture of the window, with a dialog over it, as ``NN-name.png``."""
        if settle:
            self.settle()
        picture = self.window.grab()
        if dialog is not None:
            from PySide6.QtGui import QColor, QPainter

            painter = QPainter(picture)
            painter.fillRect(self.window.rect(), QColor(0, 0, 0, 110))
            place = self.window.rect().center() - dialog.rect().center()
            painter.drawPixmap(place, dialog.grab())
            painter.end()
        path = self._out / f"{len(self.pictures) + 1:02}-{name}.png"
        if not picture.save(str(path)):
            raise TourError(f"{path} could not be written")
        self.pictures.append(path)
