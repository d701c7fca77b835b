"""A plan from outside names a loader: nothing of it is imported without the person's yes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from secateur.engine.cli import main
from secateur.engine.control import Control
from secateur.engine.data import runs_code
from secateur.engine.errors import NeedsConsent
from secateur.engine.models import open_model
from secateur.engine.plan import Plan
from secateur.engine.runs.runner import Run
from secateur.engine.workspace import Workspace

MODEL = "sample:digits-resnet"
OWN = "trap_data:make"
PLAN = {
    "rules": [{"layers": "fc", "pattern": "element", "sparsity": 0.5}],
    "training": {"data": OWN, "epochs": 0},
}


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a file behind when it is imported; `make` gives images and labels."""
    mark = tmp_path / "imported"
    code = f"import pathlib, torch\npathlib.Path({str(mark)!r}).touch()\n"
    code += "def make(): return torch.rand(20, 1, 8, 8), torch.arange(20) % 10\n"
    (tmp_path / "trap_data.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trap_data", raising=False)
    return mark


def test_a_run_refuses_until_it_is_told_to_trust(trap: Path) -> None:
    plan = Plan.from_json(PLAN)
    with pytest.raises(NeedsConsent, match=f"running {OWN}; if you trust that, .*--data {OWN}"):
        Run(open_model(MODEL), plan)
    assert not trap.exists()
    list(Run(open_model(MODEL), plan, trust_data=True).events())
    assert trap.exists()


def test_on_the_command_line_typing_the_address_is_the_yes(
    trap: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Plan.from_json(PLAN).save(tmp_path / "plan.yaml")
    argv = ["prune", MODEL, "--plan", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "out")]
    assert main(argv) == 2
    printed, said = capfd.readouterr()
    assert printed == ""
    assert said.count("\n") == 1
    assert f"--data {OWN}" in said
    assert not trap.exists()
    assert not (tmp_path / "out").exists()
    assert main([*argv, "--data", "sample:digits", "--json"]) == 0
    assert not trap.exists(), "other data were typed"
    assert main([*argv, "--restart", "--data", OWN, "--json"]) == 0
    assert trap.exists()


def test_the_engine_asks_the_studio(trap: Path, tmp_path: Path) -> None:
    workspace, plan = Workspace(), Plan.from_json(PLAN)
    workspace.open(MODEL, None, trust=True)  # of a model's file; says nothing of a plan's data
    with pytest.raises(NeedsConsent):
        list(workspace.prune(plan, tmp_path / "p", "cpu", False, Control()))
    assert not trap.exists()
    list(workspace.prune(plan, tmp_path / "p", "cpu", False, Control(), True))
    assert trap.exists()


def test_only_loaders_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs_code(OWN)
    assert not any(map(runs_code, ("sample:digits", "mnist:here?download=1", str(tmp_path))))
    monkeypatch.chdir(tmp_path)
    Path("mine:one").mkdir()
    assert runs_code("mine:two")
    assert not runs_code("mine:one"), "a folder that is there goes before a module"
