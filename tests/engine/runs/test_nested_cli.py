"""Nested levels from the command line: prune, export, verify, measure, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from secateur.engine.cli import main


def ask(capfd: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main([*argv, "--json"]) == 0, capfd.readouterr().err
    return json.loads(capfd.readouterr().out)


def refused(capfd: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(list(argv)) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("project") / "p"
    plan = "preset:switchable"
    assert main(["prune", "sample:digits-resnet", "--plan", plan, "--out", str(folder)]) == 0
    return str(folder)


def test_all_levels_go_into_one_file_and_each_verifies(
    project: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = str(tmp_path / "n.safetensors")
    report = json.loads((Path(project) / "report.json").read_text())
    exported = ask(capfd, "export", project, "--format", "nested", "--out", path)
    assert exported["equal"]
    assert exported["shared"] == report["shared"]
    assert exported["bytes"] == Path(path).stat().st_size
    for level in ("0.3", "0.5", "0.7"):
        assert ask(capfd, "verify", path, "--against", project, "--level", level)["equal"]
    line = refused(capfd, "verify", path, "--against", project, "--level", "0.6")
    assert "no level 0.6; its levels are 0.3, 0.5, 0.7" in line
    info = ask(capfd, "inspect", path)
    assert info["runnable"]
    assert main(["export", project, "--format", "nested", "--out", path]) == 0
    text = capfd.readouterr().out
    assert "for all in one file" in text
    assert f"{100 * report['shared']['break_even']:.1f} % zeros" in text


def test_other_formats_take_the_level_that_is_named(
    project: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = json.loads((Path(project) / "report.json").read_text())
    for row in report["levels"]:
        path, level = str(tmp_path / "c.safetensors"), str(row["sparsity"])
        words = ("export", project, "--format", "compressed", "--out", path, "--level", level)
        assert ask(capfd, *words)["bytes"] == row["bytes"]
    path = str(tmp_path / "loosest.safetensors")
    exported = ask(capfd, "export", project, "--format", "compressed", "--out", path)
    assert exported["bytes"] == report["levels"][0]["bytes"]
    assert "shared" not in exported
    onnx = str(tmp_path / "m.onnx")
    assert ask(capfd, "export", project, "--format", "onnx", "--out", onnx, "--level", "0.7")[
        "equal"
    ]
    assert main(["measure", project, "--level", "0.7", "--layers", "fc"]) == 0


def test_levels_that_are_not_there_are_refused(
    project: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = str(tmp_path / "x.safetensors")
    export = ("export", project, "--out", path, "--format")
    assert "has no level 0.9; its" in refused(capfd, *export, "onnx", "--level", "0.9")
    assert "leave --level out" in refused(capfd, *export, "nested", "--level", "0.5")
    one = tmp_path / "one"
    plan = tmp_path / "plan.yaml"
    plan.write_text('rules: [{layers: "*", pattern: element, sparsity: 0.5}]\n')
    ask(capfd, "prune", "sample:digits-resnet", "--plan", str(plan), "--out", str(one))
    line = refused(capfd, "export", str(one), "--out", path, "--format", "nested")
    assert "schedule: nested first" in line
    level = ("--format", "compressed", "--level", "0.5")
    assert "no levels" in refused(capfd, "export", str(one), "--out", path, *level)
    against = ("--against", "sample:digits-resnet", "--level", "0.5")
    assert ask(capfd, "export", str(one), "--out", path, "--format", "compressed")["equal"]
    assert "no levels" in refused(capfd, "verify", path, *against)
    assert not (tmp_path / "n.safetensors").exists()


def test_a_plan_with_wrong_levels_names_its_line(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        'rules: [{layers: "*", pattern: element, sparsity: 0.5}]\n'
        "schedule: {kind: nested, levels: [0.9, 0.5]}\n"
    )
    words = ("prune", "sample:digits-resnet", "--plan", str(plan), "--out", str(tmp_path / "o"))
    line = refused(capfd, *words)
    assert f"{plan}:2: nested: levels must rise" in line
