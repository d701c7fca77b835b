"""Studio tests: own settings, no Qt warnings, a real engine per module."""

import sys
from pathlib import Path

import psutil
import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QSettings, QtMsgType

from secateur.studio.look import theme
from secateur.studio.state.client import EngineClient
from secateur.studio.state.session import Session

SAMPLE = "sample:digits-resnet"


@pytest.fixture(scope="session", autouse=True)
def own_settings(tmp_path_factory):
    QSettings.setDefaultFormat(QSettings.Format.IniFormat)
    folder = str(tmp_path_factory.mktemp("settings"))
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, folder)


@pytest.fixture(autouse=True)
def no_qt_warnings(qtlog):
    yield
    bad = (QtMsgType.QtWarningMsg, QtMsgType.QtCriticalMsg)
    # The offscreen platform says of itself what it can't do.
    quiet = "This plugin does not support"
    loud = [r.message for r in qtlog.records if r.type in bad and quiet not in r.message]
    assert not loud


def wait_for(qtbot, condition, timeout=60_000):
    qtbot.waitUntil(lambda: bool(condition()), timeout=timeout)


@pytest.fixture(scope="module")
def engine_process(qapp):
    """A real engine's client, shared by a module's tests."""
    client = EngineClient()
    client.start()
    yield client
    pid = client.pid
    client.shutdown()
    assert not (pid and psutil.pid_exists(pid))


@pytest.fixture
def session(engine_process, qtbot, tmp_path):
    """A fresh session over the module's engine."""
    made = Session(engine_process, home=tmp_path / "home")
    made.notices = []
    made.notice.connect(lambda text, level: made.notices.append((level, text)))
    yield made
    if made.busy:
        made.cancel()
        wait_for(qtbot, lambda: not made.busy)
    made.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.fixture
def opened(session, qtbot):
    """A session with the small sample open."""
    session.open(SAMPLE)
    wait_for(qtbot, lambda: session.info is not None and not session.busy)
    return session


@pytest.fixture
def window(session, qtbot, qapp, tmp_path):
    """The real window, shown."""
    from secateur.studio.window import MainWindow

    theme.apply(qapp, "dark")
    settings = QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)
    made = MainWindow(session, settings)
    made.resize(1440, 900)
    made.show()
    yield made
    wait_for(qtbot, lambda: session.engine_state != "ready" or not session.client.pending)
    session.close, keep = (lambda: None), session.close  # the engine is the module's
    made.close()
    session.close = keep
    made.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.fixture
def sample():
    return SAMPLE


@pytest.fixture
def studio_files():
    return Path(sys.modules["secateur.studio"].__file__).parent
