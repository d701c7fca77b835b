"""What is wrong with a plan is said in one line that names the place and what would fit.

Through the command line, as a person gets it: exit status 2, nothing on stdout, no folder left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from secateur.engine.cli import main

RESNET, VIT = "sample:digits-resnet", "sample:digits-vit"
OTHER = "torchvision:squeezenet1_1"  # takes images of another size and brings no data


def rule(*lines: str, **keys: Any) -> str:
    """A plan of one rule, a key a line: `layers` in line 2, `pattern` 3, `sparsity` 4."""
    given = {"layers": '"*"', "pattern": "element", "sparsity": 0.5} | keys
    rows = [f"{name}: {value}" for name, value in given.items() if value is not None]
    return "\n".join(["rules:", f"  - {rows[0]}", *(f"    {row}" for row in rows[1:]), *lines])


PATTERNS = [
    ("2x2 kernels", VIT, rule(pattern="kernel:4"), ["patches", "2×2", "kernel:3"]),
    ("1x1 kernels", RESNET, rule(pattern="kernel:4"), ["layer2.0.downsample.0", "1×1", "element"]),
    ("N above M", RESNET, rule(pattern="nm:5:4", sparsity=None), [":3:", "nm:5:4", "at most M"]),
    ("N of none", RESNET, rule(pattern="nm:0:4", sparsity=None), [":3:", "at least 1"]),
    ("N no number", RESNET, rule(pattern="nm:a:4", sparsity=None), [":3:", "whole number"]),
    ("M longer than a row", RESNET, rule(pattern="nm:2:64", sparsity=None), ["conv1", "rows of 9"]),
    ("N:M and a sparsity", RESNET, rule(pattern="nm:2:4", sparsity=0.7), [":4:", "0.5", "leave"]),
    (
        "block above the matrix",
        RESNET,
        rule(pattern="block:64x64"),
        ["conv1", "16x9", "block:16x9"],
    ),
    ("half a block", RESNET, rule(pattern="block:4"), [":3:", "block:HEIGHTxWIDTH"]),
    ("vector too long", RESNET, rule(pattern="vector:64"), ["conv1", "rows of 9", "vector:9"]),
    ("head without heads", RESNET, rule(pattern="head"), ["conv1", "attention head", "filter"]),
    ("layer off a branch", RESNET, rule(pattern="layer"), ["conv1", "residual branch", "filter"]),
]

GLOBS = [
    ("glob of nothing", RESNET, rule(layers="layre1.*"), ["'layre1.*'", "'layer1."]),
    ("glob far off", RESNET, rule(layers="zzz"), ["'zzz'", "a layer is conv1"]),
    ("glob in capitals", RESNET, rule(layers="Layer1.0.conv1"), ["did you mean 'layer1.0.conv1'"]),
    ("a norm", RESNET, rule(layers="bn1"), ["bn1 cannot be pruned", "a scale per channel"]),
    ("no glob", RESNET, rule(layers='""'), [":2:", "layers must be a glob"]),
]

WORDS = [
    ("unknown pattern", RESNET, rule(pattern="elment"), [":3:", "did you mean 'element'"]),
    ("unknown criterion", RESNET, rule(criterion="magnitud"), [":5:", "did you mean 'magnitude'"]),
    ("criterion's key", RESNET, rule(criterion="{kind: taylor, fom: a}"), [":5:", "'form'"]),
    (
        "criterion's value",
        RESNET,
        rule(criterion="{kind: magnitude, norm: 3}"),
        [":5:", "at most 2"],
    ),
    ("unknown allocation", RESNET, rule("allocation: globl"), [":5:", "did you mean 'global'"]),
    ("allocation's value", RESNET, rule("allocation: {kind: flops, target: 0}"), [":5:", "0.01"]),
    ("unknown schedule", RESNET, rule("schedule: agpp"), [":5:", "did you mean 'agp'"]),
    ("rule's key", RESNET, rule(sparsty=0.5), [":5:", "did you mean 'sparsity'"]),
    ("plan's key", RESNET, "seed: 0\nrule: []", [":2:", "did you mean 'rules'"]),
    ("training's value", RESNET, rule("training:", "  lr: -1"), [":6:", "lr must be at least 0"]),
]

NUMBERS = [
    ("sparsity 1", RESNET, rule(sparsity=1.0), [":4:", "below 1"]),
    ("sparsity below 0", RESNET, rule(sparsity=-0.1), [":4:", "at least 0", "-0.1"]),
    ("sparsity in words", RESNET, rule(sparsity="half"), [":4:", "a number", "'half'"]),
    ("sparsity NaN", RESNET, rule(sparsity=".nan"), [":4:", "below 1", "nan"]),
    ("sparsity in percent", RESNET, rule(sparsity=50), [":4:", "below 1", "50"]),
    ("sparsity forgotten", RESNET, rule(sparsity=None), [":2:", "no 'sparsity'"]),
    ("a seed below 0", RESNET, rule("seed: -1"), [":5:", "seed must be at least 0"]),
]

FILES = [
    ("no rules", RESNET, "rules: []", ["prunes no layer", "rule"]),
    ("rules of nothing", RESNET, rule(sparsity=0), ["prunes no layer", "above 0"]),
    ("another version", RESNET, "version: 2\nrules: []", [":1:", "version 2", "this is 1"]),
    ("a list", RESNET, "- layers: a", [":1:", "a mapping with 'rules'"]),
    ("rules no list", RESNET, "rules:\n  layers: a", [":1:", "rules must be a list"]),
    ("a rule in words", RESNET, "rules:\n  - element", [":2:", "'layers' and 'pattern'"]),
    ("an open bracket", RESNET, "seed: 0\nrules: [", [":2:", "not valid YAML"]),
    ("a tab", RESNET, "rules:\n\t- a", [":2:", "not valid YAML"]),
    ("code", RESNET, "rules: !!python/object:os.system x", [":1:", "not valid YAML"]),
    ("a key twice", RESNET, "seed: 1\nseed: 2", [":2:", "'seed'", "twice"]),
    ("itself", RESNET, "rules: &a [*a]", [":1:", "contains itself"]),
]

COMBINATIONS = [
    ("obs and filter", RESNET, rule(pattern="filter", criterion="obs"), ["conv1", "taylor"]),
    (
        "no data",
        OTHER,
        rule(criterion="taylor"),
        ["squeezenet1_1", "{data: …}", "--data"],
    ),
    (
        "lamp of signed scores",
        RESNET,
        rule("allocation: lamp", criterion="movement"),
        ["allocation lamp", "conv1", "global"],
    ),
    (
        "data of another shape",
        OTHER,
        rule("training: {data: sample:digits, epochs: 0}", criterion="taylor"),
        ["sample:digits", "1×8×8", "features.0 takes 3 channels and gets 1"],
    ),
]

TABLE = [*PATTERNS, *GLOBS, *WORDS, *NUMBERS, *FILES, *COMBINATIONS]


def refused(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, model: str, text: str, *more: str
) -> str:
    """The one line that says why, without the plan file's folder."""
    plan, out = tmp_path / "plan.yaml", tmp_path / "out"
    plan.write_text(text)
    code = main(["prune", model, "--plan", str(plan), "--out", str(out), "--json", *more])
    printed, said = capfd.readouterr()
    assert code == 2, said
    assert printed == ""
    assert not out.exists(), "nothing is left of a run that did not start"
    assert "Traceback" not in said
    *before, line = said.splitlines()
    assert line.startswith("secateur: ")
    assert not any(text.startswith("secateur: ") for text in before)
    return line.replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("model", "text", "words"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_one_line_names_the_place_and_what_fits(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, model: str, text: str, words: list[str]
) -> None:
    line = refused(capfd, tmp_path, model, text)
    assert all(word in line for word in words), line


LOADERS = """
import torch

labels = torch.arange(10) % 2

def gray(): return torch.rand(10, 1, 64, 64), labels
def tiny(): return torch.rand(10, 3, 8, 8), labels
def short(): return torch.rand(10, 3, 64, 64), labels[:9]
"""


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("sample:digit", ["did you mean 'sample:digits'"]),
        ("nowhere.module:make", ["nowhere.module:make", "No module named"]),
        ("sample:digits", ["1×8×8", "features.0 takes 3 channels and gets 1"]),
        ("made_for_bad_plans:gray", ["1×64×64", "features.0 takes 3 channels and gets 1"]),
        ("made_for_bad_plans:tiny", ["3×8×8", "features.", "too small"]),
        ("made_for_bad_plans:short", ["made_for_bad_plans:short", "10 inputs for 9 labels"]),
    ],
)
def test_data_that_are_none_or_do_not_fit(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    data: str,
    words: list[str],
) -> None:
    (tmp_path / "made_for_bad_plans.py").write_text(LOADERS)
    monkeypatch.syspath_prepend(tmp_path)
    line = refused(capfd, tmp_path, OTHER, rule(criterion="wanda"), "--data", data)
    assert all(word in line for word in words), line


def test_weights_alone_and_weights_that_are_nan(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = torch.randn(8, 8)
    broken[0, 0], broken[3, 3] = torch.nan, torch.inf
    weights = str(tmp_path / "w.safetensors")
    save_file({"good.weight": torch.randn(4, 4), "fc.weight": broken}, weights)
    line = refused(capfd, tmp_path, weights, rule())
    assert "fc has 2 weights that are NaN or infinite" in line
    line = refused(capfd, tmp_path, weights, rule(layers="good", criterion="taylor"))
    assert "--data" in line
    line = refused(
        capfd, tmp_path, weights, rule(layers="good", criterion="taylor"), "--data", "sample:digits"
    )
    assert "--arch" in line


def test_plans_that_are_no_files(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\x89PNG\xff\xfe")
    for name, words in [
        ("nowhere.yaml", "no such plan file"),
        (".", "is a folder; name a plan file"),
        ("binary.yaml", "is no text; a plan is a file of YAML or JSON"),
    ]:
        argv = ["prune", RESNET, "--plan", str(tmp_path / name), "--out", str(tmp_path / "out")]
        assert main(argv) == 2
        printed, said = capfd.readouterr()
        assert printed == ""
        assert words in said
        assert not any(raw in said for raw in ("Errno", "codec"))
        assert said.count("\n") == 1
