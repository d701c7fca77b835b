"""The command line as a person and a script use it: JSON keys, exit codes, one clear line."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from secateur.engine.cli import main

PLAN = 'rules: [{layers: "*", pattern: element, sparsity: 0.9}]\n'


def call(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(list(argv))
    out, err = capfd.readouterr()
    return code, out, err


def ask(capfd: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    code, out, err = call(capfd, *argv, "--json")
    assert code == 0, err
    assert out.count("\n") == 1, "exactly one line on stdout"
    return json.loads(out)


def refused(capfd: pytest.CaptureFixture[str], *argv: str) -> str:
    code, out, err = call(capfd, *argv)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


@pytest.fixture
def plan(tmp_path: Path) -> str:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return str(path)


def test_inspect_resnet18(capfd: pytest.CaptureFixture[str]) -> None:
    info = ask(capfd, "inspect", "torchvision:resnet18")
    assert info["params"] == 11_689_512
    rows = {row["path"]: row for row in info["layers"]}
    assert sum(row["prunable"] for row in rows.values()) == 21
    assert rows["layer1.0.conv1"]["gemm"] == [64, 576]
    assert rows["layer1.0.conv1"]["flops"] == 2 * 64 * 576 * 56 * 56
    assert rows["fc"]["params"] == 513_000
    keys = {"path", "kind", "shape", "gemm", "params", "flops", "density", "prunable", "reason"}
    assert all(keys <= row.keys() for row in rows.values())
    assert all((row["reason"] is None) == row["prunable"] for row in rows.values())


def test_inspect_vit_shows_the_in_projections(capfd: pytest.CaptureFixture[str]) -> None:
    info = ask(capfd, "inspect", "torchvision:vit_b_16")
    rows = {row["path"]: row for row in info["layers"]}
    path = "encoder.layers.encoder_layer_0.self_attention.in_proj_weight"
    assert rows[path]["gemm"] == [2304, 768]
    assert rows[path]["prunable"]
    assert rows["encoder.layers.encoder_layer_0.self_attention.out_proj"]["flops"] > 0
    assert sum(row["params"] for row in rows.values()) == info["params"] == 86_567_656


def test_inspect_a_bert_folder(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=24, intermediate_size=48, num_attention_heads=2, vocab_size=99)
    BertModel(config).save_pretrained(tmp_path)
    info = ask(capfd, "inspect", str(tmp_path))
    prunable = [row["path"] for row in info["layers"] if row["prunable"]]
    assert len([path for path in prunable if path.startswith("encoder.layer.")]) == 12 * 6
    assert "pooler.dense" in prunable
    reasons = {row["path"]: row["reason"] for row in info["layers"]}
    assert "looked up" in reasons["embeddings.word_embeddings"]


def test_inspect_check_compares_every_layer(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capfd, "inspect", "sample:digits-vit", "--check")
    assert code == 0
    assert "18 layers through their GEMM view" in out
    assert ask(capfd, "inspect", "sample:digits-vit", "--check")["check"]["largest"] < 1e-5


def test_a_state_dict_shows_the_same_matrices(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from safetensors.torch import save_file
    from torchvision.models import resnet18

    torch.manual_seed(0)  # of eleven million weights one may be drawn as zero
    state = resnet18().state_dict()
    save_file(state, tmp_path / "r.safetensors")
    torch.save({"state_dict": state}, tmp_path / "r.pt")
    for name in ("r.safetensors", "r.pt"):
        info = ask(capfd, "inspect", str(tmp_path / name))
        rows = {row["path"]: row for row in info["layers"]}
        assert info["params"] == 11_689_512
        assert sum(row["prunable"] for row in rows.values()) == 21
        assert rows["layer1.0.conv1"]["gemm"] == [64, 576]
        assert rows["layer1.0.conv1"]["density"] == 1.0
    arch = ("--arch", "torchvision:resnet18")
    info = ask(capfd, "inspect", str(tmp_path / "r.pt"), *arch)
    assert info["runnable"]
    assert "fit" in refused(
        capfd, "inspect", str(tmp_path / "r.pt"), "--arch", "torchvision:resnet34"
    )


def test_prune_export_verify(capfd: pytest.CaptureFixture[str], tmp_path: Path, plan: str) -> None:
    out = tmp_path / "project"
    report = ask(capfd, "prune", "sample:digits-resnet", "--plan", plan, "--out", str(out))
    assert {"layers", "params", "nonzeros", "accuracy"} <= report.keys()
    assert report["accuracy"]["dense"] > 0.9
    zeros = sum(layer["zeros"] for layer in report["layers"])
    assert report["nonzeros"] == report["params"] - zeros
    names = {path.name for path in out.iterdir()}
    assert {"project.json", "plan.yaml", "masks.safetensors", "report.json", "report.html"} == names
    for kind, name in [
        ("onnx", "m.onnx"),
        ("safetensors", "z.safetensors"),
        ("compressed", "c.safetensors"),
    ]:
        file = str(tmp_path / name)
        written = ask(capfd, "export", str(out), "--format", kind, "--out", file)
        assert written["equal"]
        assert written["bytes"] == Path(file).stat().st_size
        agreed = ask(capfd, "verify", file, "--against", str(out))
        assert agreed["equal"]
        assert agreed["max_difference"] <= 1e-4
        against_dense = ask(capfd, "verify", file, "--against", "sample:digits-resnet")
        assert not against_dense["equal"]
    assert Path(tmp_path / "c.safetensors").stat().st_size == report["bytes"]["compressed"]
    info = ask(capfd, "inspect", str(tmp_path / "z.safetensors"))
    assert info["layers"][0]["density"] < 0.2
    info = ask(capfd, "inspect", str(tmp_path / "c.safetensors"))
    assert info["runnable"]


def test_measure_a_project(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text('rules: [{layers: "layer3.*", pattern: filter, sparsity: 0.5}]')
    out = str(tmp_path / "p")
    ask(capfd, "prune", "sample:digits-resnet", "--plan", str(plan), "--out", out)
    result = ask(capfd, "measure", out, "--batch", "4", "--device", "cpu")
    keys = {
        "model", "layer", "pattern", "kept", "batch", "dtype", "device", "ran", "dense_ms", "ms",
        "speedup", "spread",
    }  # fmt: skip
    assert all(keys <= cell.keys() for cell in result["cells"])
    whole = [cell for cell in result["cells"] if cell["layer"] is None]
    assert len(whole) == 1
    assert {c["pattern"] for c in result["cells"] if c["layer"]} == {"filter"}
    assert all(cell["ms"] <= cell["dense_ms"] or cell["ran"] != "dense" for cell in result["cells"])


def test_doctor(capfd: pytest.CaptureFixture[str]) -> None:
    result = ask(capfd, "doctor")
    assert result["machine"]["cores"] >= 1
    assert all({"name", "ok"} <= check.keys() for check in result["checks"])


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_would_run_code_does_not(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    for name, write in [("a.pt", torch.save), ("b.pth", _plain_pickle)]:
        path = tmp_path / name
        write({"w": Bomb(mark)}, path)
        assert "--trust-pickle" in refused(capfd, "inspect", str(path))
        assert not mark.exists()
    code, *_ = call(capfd, "inspect", str(tmp_path / "a.pt"), "--trust-pickle")
    assert code == 2, "it holds no tensors"
    assert mark.exists(), "the person said yes in so many words"


def _plain_pickle(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


def test_bad_models(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    good = tmp_path / "good.safetensors"
    save_file({"fc.weight": torch.zeros(64, 64)}, good)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-100])
    assert "truncated" in refused(capfd, "inspect", str(cut))
    cut.write_bytes(good.read_bytes()[:5])
    assert "truncated" in refused(capfd, "inspect", str(cut))
    cut.write_bytes(b"\x10\0\0\0\0\0\0\0not json at all!")
    assert "header" in refused(capfd, "inspect", str(cut))
    half = tmp_path / "half.pt"
    torch.save({"w": torch.zeros(100)}, half)
    half.write_bytes(half.read_bytes()[:200])
    refused(capfd, "inspect", str(half))
    assert "no such file" in refused(capfd, "inspect", str(tmp_path / "none.safetensors"))
    assert "resnet18" in refused(capfd, "inspect", "torchvision:resnet81")
    assert "digits-resnet" in refused(capfd, "inspect", "sample:digit-resnet")
    assert "torchvision" in refused(capfd, "inspect", "torchvison:resnet18")
    assert "config.json" in refused(capfd, "inspect", str(tmp_path))
    (tmp_path / "x.txt").write_text("hello")
    assert "not a model file" in refused(capfd, "inspect", str(tmp_path / "x.txt"))
    assert "goes with a file" in refused(capfd, "inspect", "sample:digits-vit", "--arch", "x:y")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('rules: [{layers: "*", pattern: grup, sparsity: 0.5}]', "group"),
        ('rules: [{layers: "*", patern: group, sparsity: 0.5}]', "pattern"),
        ('rules: [{layers: "*", pattern: group, sparsity: 1.5}]', "below 1"),
        ('rules: [{layers: "layer9", pattern: group, sparsity: 0.5}]', "layer9"),
        ('rules: [{layers: "*", pattern: "block:64x64", sparsity: 0.5}]', "conv1"),
        ("schedule: agpp", "agp"),
    ],
)
def test_bad_plans(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    out = tmp_path / "out"
    args = ("prune", "sample:digits-resnet", "--plan", str(path), "--out", str(out))
    assert words in refused(capfd, *args)
    assert not out.exists(), "nothing is left of a run that did not start"


def test_bad_flags_and_folders(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, plan: str
) -> None:
    model = "sample:digits-resnet"
    refused(capfd, "prune", model, "--out", str(tmp_path / "o"))
    refused(capfd, "frobnicate", "--json")
    assert "no such plan" in refused(
        capfd, "prune", model, "--plan", "nowhere.yaml", "--out", str(tmp_path / "o")
    )
    assert "unknown device" in refused(
        capfd, "prune", model, "--plan", plan, "--out", str(tmp_path / "o"), "--device", "tpu"
    )
    assert "unknown data" in refused(
        capfd,
        "prune",
        model,
        "--plan",
        plan,
        "--out",
        str(tmp_path / "o"),
        "--data",
        "sample:digit",
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert "other files" in refused(
        capfd, "prune", model, "--plan", plan, "--out", str(tmp_path / "mine")
    )
    assert "project" in refused(
        capfd, "export", str(tmp_path), "--format", "onnx", "--out", str(tmp_path / "m")
    )
    assert "0 and below 1" in refused(capfd, "measure", model, "--sparsities", "0.5,1.5")
    assert "at least 1" in refused(capfd, "measure", model, "--batch", "0")


def test_a_model_that_changed_since_is_noticed(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, plan: str
) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "m.safetensors"
    save_file({"fc.weight": torch.randn(8, 8)}, file)
    out = str(tmp_path / "p")
    ask(capfd, "prune", str(file), "--plan", plan, "--out", out)
    export = ("export", out, "--format", "compressed", "--out", str(tmp_path / "c.safetensors"))
    ask(capfd, *export)
    save_file({"fc.weight": torch.randn(8, 8)}, file)
    assert "has changed" in refused(capfd, *export)


def test_nan_weights_are_named(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, plan: str
) -> None:
    from safetensors.torch import save_file

    weight = torch.randn(8, 8)
    weight[0, 0] = float("nan")
    save_file({"fc.weight": weight}, tmp_path / "m.safetensors")
    args = ("--plan", plan, "--out", str(tmp_path / "p"))
    assert "fc has 1 weights" in refused(capfd, "prune", str(tmp_path / "m.safetensors"), *args)


def test_the_studio_is_missing_in_the_engine_s_own_command(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert "PySide6" in refused(capfd)
    assert "PySide6" in refused(capfd, "tour", "--out", "x")


def test_stdout_holds_one_json_object_as_a_process(tmp_path: Path, plan: str) -> None:
    argv = ["prune", "sample:digits-resnet", "--plan", plan, "--out", str(tmp_path / "p"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "secateur.engine", *argv],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["project"] == str(tmp_path / "p")


def test_inspecting_a_file_needs_no_window_and_help_no_torch() -> None:
    code = (
        "import sys\nfrom secateur.engine.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'PySide6' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def weights_of(path: Path, value: float = 1.0) -> str:
    """A file of weights in which every one is `value` times its number."""
    from safetensors.torch import save_file

    save_file({"fc.weight": value * torch.arange(1.0, 101.0).view(10, 10)}, path)
    return str(path)


def test_a_project_of_something_else_is_not_replaced(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, plan: str
) -> None:
    one, two = weights_of(tmp_path / "one.safetensors"), tmp_path / "two.safetensors"
    out, other = tmp_path / "o", tmp_path / "other.yaml"
    other.write_text(PLAN.replace("0.9", "0.5"))

    def prune(model: str, by: str | Path) -> tuple[str, ...]:
        return ("prune", model, "--plan", str(by), "--out", str(out))

    ask(capfd, *prune(one, plan))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    refusals = {
        "another plan": prune(one, other),
        "another model": prune(weights_of(two, 2.0), plan),
    }
    for words, argv in refusals.items():
        line = refused(capfd, *argv)
        assert f"{out} already holds a project of {one}, and this run has {words};" in line
        assert "--restart" in line
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    ask(capfd, *prune(one, plan))
    assert ask(capfd, *refusals["another plan"], "--restart")["sparsity"] == 0.5
    weights_of(tmp_path / "one.safetensors", 3.0)
    assert "other weights" in refused(capfd, *prune(one, other))
    ask(capfd, *prune(one, other), "--restart")


def test_a_plan_that_trains_does_so_on_the_data_that_is_named(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan, out = tmp_path / "p.yaml", str(tmp_path / "o")
    plan.write_text(f"{PLAN}schedule: sparse-training\n")
    argv = ("prune", "new:mlp:64-40-30-10", "--plan", str(plan), "--out", out)
    code, said, err = call(capfd, *argv, "--data", "sample:digits")
    assert code == 0, err
    report = json.loads((tmp_path / "o" / "report.json").read_text())
    assert report["steps"] == 20 * 23
    assert f"accuracy  {100 * report['accuracy']['pruned']:.1f} %, trained sparse" in said
    assert re.search(r"^step 23  dropped \d+  regrown \d+  loss \d\.\d{4} ", err, re.M)


def test_a_stopped_run_in_the_place_of_another_goes_on(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, plan: str
) -> None:
    from secateur.engine.control import Control
    from secateur.engine.models import open_model
    from secateur.engine.plan import Plan
    from secateur.engine.runs.runner import Run

    out, other = tmp_path / "o", tmp_path / "other.yaml"
    ask(capfd, "prune", "sample:digits-resnet", "--plan", plan, "--out", str(out))
    other.write_text(f"{PLAN}training: {{epochs: 1, data: 'sample:digits'}}\n")
    control = Control()
    stopped = Run(open_model("sample:digits-resnet"), Plan.load(other), control=control, folder=out)
    for event in stopped.events():
        if event.kind == "metric" and "loss" in event.values:
            control.cancel()
    assert (out / "checkpoint.pt").exists()
    argv = ("prune", "sample:digits-resnet", "--plan", str(other), "--out", str(out))
    saved = (out / "checkpoint.pt").read_bytes()
    code, _, err = call(capfd, "prune", "sample:digits-resnet", "--plan", plan, "--out", str(out))
    assert code == 2
    assert "is of another unfinished run of sample:digits-resnet, at step" in err
    assert "--restart" in err
    assert (out / "checkpoint.pt").read_bytes() == saved
    code, _, err = call(capfd, *argv)
    assert code == 0, err
    assert re.search(r"resumed from the checkpoint at step .*% accuracy at step 23\n", err)
    assert "\nstep 23 " not in err  # not again what was said before


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"name": "a web page", "version": 1}'])
def test_a_foreign_project_json_is_left_alone(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, plan: str, text: str
) -> None:
    out = tmp_path / "web"
    out.mkdir()
    (out / "project.json").write_text(text)
    for more in ((), ("--restart",)):
        argv = ("prune", "sample:digits-resnet", "--plan", plan, "--out", str(out), *more)
        assert "name a new or empty folder" in refused(capfd, *argv)
    assert [path.name for path in out.iterdir()] == ["project.json"]
    assert (out / "project.json").read_text() == text


def test_a_plan_for_another_model_is_noticed(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = weights_of(tmp_path / "m.safetensors")
    for named, noticed in (
        ("torchvision:resnet18", True),
        (weights, False),
        ("m.safetensors", False),
    ):
        Path("plan.yaml").write_text(f"model: '{named}'\n{PLAN}")
        argv = ("prune", "m.safetensors", "--plan", "plan.yaml", "--out", "o", "--restart")
        code, _, err = call(capfd, *argv)
        assert code == 0
        line = f"warning: the plan was made for {named}, not for m.safetensors\n"
        assert (line in err) == noticed


def test_whole_layers_say_what_they_came_to_together(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text('rules: [{layers: "*", pattern: layer, sparsity: 0.5, skip_misfits: true}]')
    argv = ("prune", "sample:digits-resnet", "--plan", str(path), "--out", str(tmp_path / "o"))
    code, out, err = call(capfd, *argv, "--json")
    assert code == 0, err
    report = json.loads(out)
    (note,) = [note for note in report["notes"] if "go as a whole" in note]
    reached = 100 * report["sparsity"]
    assert note == (
        f"layers that go as a whole: 50.0 % asked, {reached:.1f} % reached; each goes or stays"
    )
    assert err.count(note) == 1
    assert abs(reached - 50) > 1, "so that there is something to say"


def test_what_is_written_of_no_difference_at_all() -> None:
    from secateur.engine.text import verify

    result = {
        "max_difference": 2.2e-9, "relative": 0.31, "agreement": None, "equal": False,
        "tolerance": 1e-4, "relative_tolerance": 1e-3, "inputs": 16,
    }  # fmt: skip
    assert verify(result) == (
        "not equal: all differences together are 0.31 of the outputs (tolerance 0.001); largest "
        "difference 2.2e-09, over 16 inputs"
    )
    assert verify({**result, "max_difference": 0.5}) == (
        "not equal: largest difference 0.5 (tolerance 0.0001), over 16 inputs"
    )
    assert verify({**result, "equal": True}).startswith("equal: largest difference 2.2e-09 (tol")


def test_a_folder_named_by_mistake_is_called_what_it_is(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    empty, stopped, other = (tmp_path / name for name in ("empty", "stopped", "other"))
    for folder in (empty, stopped, other):
        folder.mkdir()
    (stopped / "checkpoint.pt").touch()
    (other / "notes.txt").touch()
    (tmp_path / "m.safetensors").write_bytes(b"")
    for folder, words in (
        (empty, "is an empty folder"),
        (stopped, "holds a run that was stopped"),
        (other, "neither a project.json nor a config.json"),
    ):
        for command in (
            ("inspect", str(folder)),
            ("measure", str(folder)),
            ("verify", str(tmp_path / "m.safetensors"), "--against", str(folder)),
            ("export", str(folder), "--format", "onnx", "--out", str(tmp_path / "m.onnx")),
        ):
            assert words in refused(capfd, *command)


def test_inspect_takes_a_project_and_prune_names_its_model(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan, folder = tmp_path / "plan.yaml", tmp_path / "p"
    plan.write_text(PLAN)
    ask(capfd, "prune", "sample:digits-resnet", "--plan", str(plan), "--out", str(folder))
    found = ask(capfd, "inspect", str(folder), "--check")
    plain = ask(capfd, "inspect", "sample:digits-resnet", "--check")
    note = f"{folder} is a project; these are the layers of sample:digits-resnet before the run"
    assert found == {**plain, "notes": [*plain["notes"], note]}
    again = ("prune", str(folder), "--plan", str(plan), "--out", str(tmp_path / "q"))
    assert "name its model, sample:digits-resnet" in refused(capfd, *again)
