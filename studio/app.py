"""Starts the studio."""

from __future__ import annotations

import sys

from PySide6.QtCore import QSettings, QTimer
from PySide6.QtWidgets import QApplication

from .. import __version__
from ..engine.errors import BadInput
from .look import theme
from .look.icons import app_icon


def make_application(argv: list[str]) -> QApplication:
    """The one QApplication, named so that settings and data have their place."""
    app = QApplication.instance()
    if not isinstance(app, QApplication):
        app = QApplication([sys.argv[0], *argv])
    app.setApplicationName("Secateur")
    app.setApplicationDisplayName("Secateur")
    app.setOrganizationName("Secateur")
    app.setApplicationVersion(__version__)
    app.setDesktopFileName("secateur")
    app.setWindowIcon(app_icon())
    return app


def run(argv: list[str]) -> int:
    """Open the window, on the model or project that `argv` names, if any; returns at its end.

    Raises BadInput for more than one name.
    """
    if len(argv) > 1:
        raise BadInput(f"the studio opens one model or project, not {len(argv)}; see --help")
    app = make_application([])
    settings = QSettings()
    from .window import MainWindow, saved_theme

    theme.apply(app, saved_theme(settings))
    from .state.session import Session

    session = Session()
    session.client.start()
    window = MainWindow(session, settings)
    window.show()
    if argv:
        QTimer.singleShot(0, window, lambda: session.open(argv[0]))
    return app.exec()
