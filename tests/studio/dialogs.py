"""Answers to the dialogs and menus that have an event loop of their own."""

from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QMenu

_EVERY_MS = 50


def answer_file(monkeypatch, path):
    """Let the system's dialog, which no test can click, answer `path`."""
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))


def pick_from_menu(start):
    """Click the entry that begins with `start` in the menu that comes up."""
    timer = QTimer(QApplication.instance())

    def pick():
        menu = QApplication.activePopupWidget()
        if isinstance(menu, QMenu):
            timer.stop()
            timer.deleteLater()
            entry = next(one for one in menu.actions() if one.text().startswith(start))
            place = menu.actionGeometry(entry).center()
            QTest.mouseClick(menu, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)

    timer.timeout.connect(pick)
    timer.start(_EVERY_MS)
