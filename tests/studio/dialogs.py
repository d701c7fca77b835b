"""Answers to dialogs and menus that are about to come up, with an event loop of their own."""

from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QLineEdit, QMenu, QMessageBox

_EVERY_MS = 50
_TRIES = 200


def answer_file(path):
    """Type `path` into the file dialog that comes up, and agree to replace a file that is there."""
    QApplication.setAttribute(Qt.ApplicationAttribute.AA_DontUseNativeDialogs)

    def type_path(dialog):
        field = dialog.findChild(QLineEdit, "fileNameEdit")
        field.clear()
        QTest.keyClicks(field, str(path))
        if path.exists():
            _once_up(QMessageBox, agree)
        QTest.keyClick(field, Qt.Key.Key_Return)

    def agree(box):
        QTest.mouseClick(box.button(QMessageBox.StandardButton.Yes), Qt.MouseButton.LeftButton)

    _once_up(QFileDialog, type_path)


def pick_from_menu(start):
    """Click the entry that begins with `start` in the menu that comes up."""

    def pick(menu):
        entry = next(action for action in menu.actions() if action.text().startswith(start))
        place = menu.actionGeometry(entry).center()
        QTest.mouseClick(menu, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)

    _once_up(QMenu, pick)


def _once_up(kind, answer):
    """Call `answer` with the dialog or menu of a kind once it is up; in vain, close what is up."""
    timer = QTimer(QApplication.instance())
    tries = 0

    def look():
        nonlocal tries
        tries += 1
        menu = QApplication.activePopupWidget() if kind is QMenu else None
        found = menu or QApplication.activeModalWidget()
        if not isinstance(found, kind) and tries < _TRIES:
            return
        timer.stop()
        timer.deleteLater()
        if isinstance(found, kind):
            answer(found)
        elif found is not None:
            found.close()

    timer.timeout.connect(look)
    timer.start(_EVERY_MS)
