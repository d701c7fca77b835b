"""What tests of runs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from secateur.engine.models import open_model
from secateur.engine.models.model import Model
from secateur.tests.bench.schedules import train_mlp

ARCH = "secateur.tests.bench.schedules:mlp"


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlp") / "mlp.safetensors"
    train_mlp(path)
    return path


@pytest.fixture
def mlp(_trained: Path) -> Callable[[], Model]:
    """Opens a 300-100 network that knows the digits: a training of seconds, not minutes."""
    return lambda: open_model(str(_trained), arch=ARCH)
