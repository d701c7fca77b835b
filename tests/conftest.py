"""What every test may use, and what none may leave behind."""

from __future__ import annotations

import os
from pathlib import Path

# Compiled loops are kept beside pytest's own cache, for the next run.
os.environ.setdefault(
    "NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled")
)
# Before torch and Qt are imported: see the guide's page on measuring.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import threading
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import HealthCheck, settings

# Shared machines are slow at times, and a test must not fail for that.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True, scope="session")
def measurements_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor fill the person's own memory of measurements."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
            patch.setenv(name, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def nothing_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves threads or child processes behind."""
    me = psutil.Process()
    before = {child.pid for child in me.children(recursive=True)}
    threads = set(threading.enumerate())
    yield
    if "engine_process" in request.fixturenames:
        return  # shared by a module and ended there
    left = [child for child in me.children(recursive=True) if child.pid not in before]
    _, alive = psutil.wait_procs(left, timeout=3)
    assert not alive, f"processes left running: {alive}"
    started = [t for t in threading.enumerate() if t not in threads and not t.daemon]
    assert not started, f"threads left running: {started}"


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements are taken as they come, whatever runs beside: for tests of remembering them."""
    from secateur.kernels.dispatch import stopwatch

    monkeypatch.setattr(stopwatch.Watch, "disturbed", lambda self: False)
    monkeypatch.setattr(stopwatch, "in_doubt", lambda times, dense, disturbed: False)
