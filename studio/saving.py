"""Writing a project folder from the studio, without tensors: plan, address, and copies of a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ..engine.errors import BadInput
from ..engine.files import replacing
from ..engine.plan import Plan

VERSION = 1


def save_project(path: Path, address: str, arch: str | None, plan: Plan, run: Path | None) -> None:
    """Write plan and model address into the folder `path`; with a `run`, its results too.

    Raises BadInput where `path` is a file or a folder that holds something else.
    """
    if path.is_file():
        raise BadInput(f"{path} is a file; name a folder for the project")
    if path.is_dir() and any(path.iterdir()) and not (path / "project.json").exists():
        raise BadInput(f"{path} holds something else; choose an empty or a new folder")
    path.mkdir(parents=True, exist_ok=True)
    head = {"version": VERSION, "model": address, "arch": arch, "hash": None}
    if run is not None:
        head.update(json.loads((run / "project.json").read_text(encoding="utf-8")))
        if run.resolve() != path.resolve():
            shutil.copytree(run, path, dirs_exist_ok=True)
    head["plan"] = plan.to_json()
    with replacing(path / "plan.yaml") as temporary:
        plan.save(temporary)
    with replacing(path / "project.json") as temporary:
        temporary.write_text(json.dumps(head, indent=2) + "\n", encoding="utf-8")
