"""Files and folders that may not be read: bad input with the system's reason, no fault of ours.

Rights do not hold for root, so the system's refusal is raised in its place.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from secateur.engine.cli import main
from secateur.engine.errors import as_bad_input
from secateur.engine.models import open_model
from secateur.engine.plan import Plan
from secateur.engine.runs.runner import Run

REASON = os.strerror(errno.EACCES)


def refused(capfd: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(list(argv)) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rights") / "project"
    rule = {"layers": "layer*", "pattern": "element", "sparsity": 0.5}
    schedule = {"kind": "nested", "levels": [0.5, 0.7]}
    plan = Plan.from_json({"rules": [rule], "schedule": schedule, "training": {"epochs": 1}})
    run = Run(open_model("sample:digits-resnet"), plan)
    for _ in run.events():
        pass
    run.outcome.save(folder)
    return folder


@pytest.mark.parametrize("name", ["weights.safetensors", "masks.safetensors", "levels.safetensors"])
def test_a_file_of_a_project(
    capfd: pytest.CaptureFixture[str], project: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    lock(monkeypatch, project / name)
    line = refused(
        capfd, "export", str(project), "--format", "nested", "--out", str(project / "n.safetensors")
    )
    assert line == f"secateur: {project / name} cannot be read: {REASON}\n"


def test_files_of_models(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, config = tmp_path / "m.pt", tmp_path / "hf" / "config.json"
    torch.save(open_model("sample:digits-resnet").state, weights)
    config.parent.mkdir()
    config.write_text("{}")
    for path, *command in (
        (weights, "inspect", str(weights)),
        (config, "inspect", str(config.parent)),
        (weights, "verify", str(weights), "--against", "sample:digits-resnet"),
    ):
        lock(monkeypatch, path)
        assert f"{path} cannot be read: {REASON}" in refused(capfd, *command)


def test_a_folder(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: Path) -> bool:
        raise PermissionError(errno.EACCES, REASON, str(path))

    monkeypatch.setattr(Path, "is_dir", closed)
    assert f"{tmp_path} cannot be read: {REASON}" in refused(capfd, "inspect", str(tmp_path))


def test_what_names_no_file_is_no_bad_input() -> None:
    assert as_bad_input(PermissionError(errno.EPERM, "no")) is None
    assert as_bad_input(RuntimeError("no")) is None


def lock(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let the system refuse to open this file."""

    really = Path.open

    def refusing(name: Path, *args: Any, **more: Any) -> Any:
        if name == path:
            raise PermissionError(errno.EACCES, REASON, str(name))
        return really(name, *args, **more)

    monkeypatch.setattr(Path, "open", refusing)
