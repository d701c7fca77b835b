"""Files and addresses from outside: no code of theirs runs, and what is wrong is one sentence."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import secateur
from secateur.engine.cli import main
from secateur.engine.control import Control
from secateur.engine.data import load_data
from secateur.engine.data.evaluate import check_fits
from secateur.engine.errors import BadInput, NeedsConsent, is_out_of_memory, nearest
from secateur.engine.export.storage import compressed_bytes
from secateur.engine.files import replacing
from secateur.engine.masks import Masks
from secateur.engine.models import open_model
from secateur.engine.models.header import read_header
from secateur.engine.plan import Plan
from secateur.engine.project import Project, make_folder
from secateur.engine.runs.runner import Run
from secateur.engine.verify import verify
from secateur.engine.workspace import Workspace

ELEMENT = {"layers": "*", "pattern": "element", "sparsity": 0.5}


def refused(capfd: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(list(argv)) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


def exported(path: Path, about: dict[str, Any]) -> Path:
    text = json.dumps({"version": 1, "layout": "dense", "address": "x.pt", **about})
    save_file({"fc.weight": torch.ones(3, 2)}, path, {"secateur": text})
    return path


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a file behind when it is imported; `build` gives a network."""
    mark = tmp_path / "imported"
    code = f"import pathlib, torch\npathlib.Path({str(mark)!r}).touch()\n"
    code += "class Net(torch.nn.Module):\n  def __init__(self):\n    super().__init__()\n"
    code += "    self.fc = torch.nn.Linear(2, 3, bias=False)\nbuild = Net\n"
    (tmp_path / "trap_module.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trap_module", raising=False)
    return mark


def test_an_architecture_named_by_a_file_is_not_run(tmp_path: Path, trap: Path) -> None:
    path = exported(tmp_path / "m.safetensors", {"arch": "trap_module:build"})
    with pytest.raises(BadInput, match="arch='trap_module:build'"):
        secateur.load(path)
    assert open_model(str(path)).module is None
    with pytest.raises(BadInput, match="no export"):
        verify(path, open_model("sample:digits-vit"))
    assert not trap.exists()
    assert isinstance(secateur.load(path, arch="trap_module:build"), nn.Module)
    assert trap.exists()


def test_an_architecture_named_by_a_project_needs_consent(tmp_path: Path, trap: Path) -> None:
    weights = tmp_path / "w.safetensors"
    save_file({"fc.weight": torch.ones(3, 2)}, weights)
    digest = open_model(str(weights)).digest()
    project = Project(tmp_path / "p", str(weights), Plan(), "trap_module:build", digest)
    project.save()
    Masks().save(project.folder / "masks.safetensors")
    with pytest.raises(NeedsConsent, match="--arch trap_module:build"):
        project.load()
    assert not trap.exists()
    assert project.load(arch="trap_module:build")[0].module is not None
    assert project.load(trust_pickle=True)[0].module is not None


def test_what_was_agreed_to_for_the_open_model_holds_for_its_project(
    tmp_path: Path, trap: Path
) -> None:
    weights = tmp_path / "w.safetensors"
    save_file({"fc.weight": torch.ones(3, 2)}, weights)
    workspace = Workspace()
    workspace.open(str(weights), "trap_module:build", trust=False)
    plan, folder = Plan.from_json({"rules": [ELEMENT]}), tmp_path / "p"
    list(workspace.prune(plan, folder, "cpu", False, Control()))
    assert workspace.load_project(str(folder))[0].module is not None
    with pytest.raises(NeedsConsent):
        Workspace().load_project(str(folder))


def header(path: Path, table: dict[str, Any], size: int) -> Path:
    raw = json.dumps(table).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(size))
    return path


@pytest.mark.parametrize(
    ("shapes", "offsets"),
    [
        ([[2.0, 2.0]], [(0, 16)]),
        ([[-2, -2]], [(0, 16)]),
        ([["2", 2]], [(0, 16)]),
        ([[4], [4]], [(0, 16), (8, 24)]),
        ([[4], [4]], [(0, 16), (20, 36)]),
    ],
)
def test_headers_that_cannot_be(
    tmp_path: Path, shapes: list[Any], offsets: list[tuple[int, int]]
) -> None:
    table = {
        str(i): {"dtype": "F32", "shape": shape, "data_offsets": place}
        for i, (shape, place) in enumerate(zip(shapes, offsets, strict=True))
    }
    with pytest.raises(BadInput, match="damaged"):
        read_header(header(tmp_path / "h.safetensors", table, offsets[-1][1]))


def test_addresses_that_name_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "write torchvision:NAME" in refused(capfd, "inspect", "torchvision:")
    assert "no weights ''" in refused(capfd, "inspect", "torchvision:resnet18?weights=")
    assert "did you mean 'inspect'" in refused(capfd, "inspct", "torchvision:resnet18")
    save_file({"fc.weight": torch.ones(3, 2)}, tmp_path / "w.safetensors")
    file = str(tmp_path / "w.safetensors")
    assert "missing 2 required" in refused(capfd, "inspect", file, "--arch", "torch.nn:Linear")
    (tmp_path / "config.json").write_text("{}")
    arch = ("--arch", "sample:digits-vit")
    assert "says what it is" in refused(capfd, "inspect", str(tmp_path), *arch)


def test_long_lists_of_names_are_cut() -> None:
    hint = nearest("zzz", [f"name{i}" for i in range(99)])
    assert hint.endswith("name11, …")


@pytest.mark.parametrize("text", ["a: &a [*a]", "[" * 3000])
def test_a_plan_without_end_is_bad_input(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match="nested too deeply"):
        Plan.load(path)


@pytest.mark.parametrize("rules", [[], [{**ELEMENT, "sparsity": 0}]])
def test_a_plan_that_prunes_nothing_is_bad_input(rules: list[Any]) -> None:
    with pytest.raises(BadInput, match="prunes no layer"):
        Run(open_model("sample:digits-vit"), Plan.from_json({"rules": rules}))


def test_data_of_another_shape_is_bad_input(tmp_path: Path) -> None:
    data = load_data("sample:digits")
    with pytest.raises(BadInput, match="cannot take the inputs"):
        check_fits(nn.Conv2d(3, 4, 1), data)
    with pytest.raises(BadInput, match="10 classes"):
        check_fits(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), data)
    save_file({"fc.weight": torch.ones(3, 2)}, tmp_path / "w.safetensors")
    plan = Plan.from_json({"rules": [ELEMENT], "training": {"data": "sample:digits", "epochs": 0}})
    with pytest.raises(BadInput, match="weights only"):
        Run(open_model(str(tmp_path / "w.safetensors")), plan)


def test_folders_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInput, match="cannot be written to"):
        make_folder(tmp_path / "file" / "project")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_device_is_never_replaced() -> None:
    with pytest.raises(BadInput, match="no file"), replacing("/dev/null"):
        pass
    assert Path("/dev/null").is_char_device()


def test_a_full_disk_at_the_end_of_a_run_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("secateur.engine.export.compressed_file.CompressedFile.write", full)
    with pytest.raises(BadInput, match="too full"):
        compressed_bytes(open_model("sample:digits-vit"), Masks(), tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits there")
def test_a_checkpoint_that_the_disk_cannot_hold_is_bad_input(tmp_path: Path) -> None:
    code = """
import resource, signal, torch
from pathlib import Path
from secateur.engine.runs.checkpoint import Checkpoint
from secateur.engine.errors import BadInput
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    Checkpoint("", 0, {"w": torch.ones(9999)}, {}, {}, {}, None, []).save(Path("checkpoint.pt"))
except BadInput as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "disk is full" in done.stdout
    assert not any(tmp_path.iterdir())


def test_memory_that_runs_out_is_told_from_other_faults() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_nonzeros_count_every_parameter() -> None:
    plan = Plan.from_json({"rules": [ELEMENT]})
    run = Run(open_model("torchvision:squeezenet1_1"), plan)  # its biases start at zero
    list(run.events())
    outcome = run.outcome
    assert outcome is not None
    state = outcome.masks.committed(outcome.model)
    assert outcome.report.nonzeros == sum(int(t.count_nonzero()) for t in state.values())


def test_exports_do_not_tell_where_the_model_lay(tmp_path: Path) -> None:
    from secateur.engine.export import export

    save_file({"fc.weight": torch.ones(3, 2)}, tmp_path / "w.safetensors")
    model = open_model(str(tmp_path / "w.safetensors"))
    for kind in ("safetensors", "compressed"):
        export(model, Masks(), kind, tmp_path / "out.safetensors")
        assert str(tmp_path).encode() not in (tmp_path / "out.safetensors").read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts are sent otherwise there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_the_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    plan = Plan.from_json({"rules": [ELEMENT], "schedule": "agp", "training": {"epochs": 1000}})
    plan.save(tmp_path / "plan.yaml")
    command = [sys.executable, "-m", "secateur.engine", "prune", "sample:digits-resnet"]
    command += ["--plan", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "run"), "--json"]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step"):
                process.send_signal(number)
                break
        rest = process.stderr.read()
        assert process.stdout.read() == ""
    assert process.returncode == 130
    assert rest.endswith("secateur: stopped\n")
    assert "Traceback" not in rest
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint.pt"]
