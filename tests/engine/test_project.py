"""Projects on disk: read back equal, refused clearly, never half-written."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch

from secateur.engine.errors import BadInput
from secateur.engine.files import replacing
from secateur.engine.masks import Masks, masked
from secateur.engine.models import open_model
from secateur.engine.plan import Plan
from secateur.engine.project import Project, check_folder, save_run
from secateur.engine.runs.runner import Run

PLAN = Plan.from_json(
    {
        "rules": [{"layers": "layer*", "pattern": "filter", "sparsity": 0.5}],
        "training": {"epochs": 1},
    }
)


@pytest.fixture(scope="module")
def finished() -> Run:
    run = Run(open_model("sample:digits-resnet"), PLAN)
    for _ in run.events():
        pass
    return run


def save(run: Run, folder: Path) -> None:
    outcome = run.outcome
    report = outcome.report.to_json()
    save_run(folder, outcome.model, outcome.trained, outcome.masks, report, PLAN)


def test_a_project_reads_back_equal(finished: Run, tmp_path: Path) -> None:
    save(finished, tmp_path / "p")
    project = Project.open(tmp_path / "p")
    model, masks = project.load()
    assert project.plan == PLAN
    assert Plan.load(tmp_path / "p" / "plan.yaml") == PLAN
    assert project.report()["accuracy"]["pruned"] == finished.outcome.report.accuracy_pruned
    for name, tensor in finished.outcome.model.state.items():
        assert torch.equal(model.state[name], tensor), name
    for mine, theirs in (
        (masks.layers, finished.masks.layers),
        (masks.vectors, finished.masks.vectors),
    ):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_masks_take_one_bit_a_weight(finished: Run, tmp_path: Path) -> None:
    finished.masks.save(tmp_path / "m.safetensors")
    bits = sum(mask.numel() for mask in finished.masks.layers.values())
    assert (tmp_path / "m.safetensors").stat().st_size < bits / 8 + 4000


def test_the_same_project_gives_the_same_bytes(finished: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(finished, tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "damaged"), ("{}", "damaged"), ('{"version": 99}', "newer"), ("[]", "damaged")],
)
def test_damaged_projects_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "project.json").write_text(text)
    with pytest.raises(BadInput, match=words):
        Project.open(tmp_path)


def test_a_plan_that_was_not_run_says_so(tmp_path: Path) -> None:
    Project(tmp_path / "p", "sample:digits-resnet", PLAN).save()
    project = Project.open(tmp_path / "p")
    assert project.plan == PLAN
    with pytest.raises(BadInput, match="prune first"):
        project.load()


def test_masks_of_another_model_are_refused(finished: Run, tmp_path: Path) -> None:
    save(finished, tmp_path)
    Masks({"layer1.0.conv1": torch.ones(3, 3, dtype=torch.bool)}).save(
        tmp_path / "masks.safetensors"
    )
    with pytest.raises(BadInput, match="another shape"):
        Project.open(tmp_path).load()
    data = json.loads((tmp_path / "project.json").read_text())
    (tmp_path / "project.json").write_text(json.dumps({**data, "hash": "0"}))
    with pytest.raises(BadInput, match="has changed"):
        Project.open(tmp_path).load()


def test_other_people_s_folders_are_left_alone(tmp_path: Path) -> None:
    check_folder(tmp_path)
    check_folder(tmp_path / "new")
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(BadInput, match="other files"):
        check_folder(tmp_path)
    with pytest.raises(BadInput, match="is a file"):
        check_folder(tmp_path / "letter.txt")


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "full"), OSError(errno.EFBIG, "big"), ValueError("I/O (os error 28)")],
)
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "model.bin"
    path.write_text("old")
    with pytest.raises(BadInput, match="unchanged"), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.bin"]


def test_masked_gives_the_weights_back_bit_for_bit() -> None:
    model = open_model("sample:digits-vit")
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    layer = model.info.prunable[3]
    mask = torch.rand(layer.gemm.shape) < 0.5
    args, kwargs = model.inputs(2)
    dense = model.module(*args, **kwargs)
    with pytest.raises(RuntimeError, match="inside"), masked(model, Masks({layer.path: mask})):
        assert not torch.equal(model.module(*args, **kwargs), dense)
        raise RuntimeError("inside")
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, before[name])
