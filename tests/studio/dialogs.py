"""Answers to dialogs that are about to come up and have an event loop of their own."""

from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QLineEdit, QMessageBox

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


def _once_up(kind, answer):
    """Call `answer` with the modal dialog of a kind once it is up; in vain, close what is up."""
    timer = QTimer(QApplication.instance())
    tries = 0

    def look():
        nonlocal tries
        tries += 1
        dialog = QApplication.activeModalWidget()
        if not isinstance(dialog, kind) and tries < _TRIES:
            return
        timer.stop()
        timer.deleteLater()
        if isinstance(dialog, kind):
            answer(dialog)
        elif dialog is not None:
            dialog.close()

    timer.timeout.connect(look)
    timer.start(_EVERY_MS)
