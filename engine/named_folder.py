"""What a folder holds that was named in place of a model or project."""

from __future__ import annotations

import json
from pathlib import Path

FILE = "project.json"
"""What makes a folder a project's."""


def what_is(folder: Path) -> str:
    """What the folder is, and what to do, in a sentence."""
    if (folder / FILE).is_file():
        return (
            f"{folder} is a project; name its model{_model_of(folder)}, or let inspect, measure, "
            "export or verify --against take the project"
        )
    if (folder / "checkpoint.pt").is_file():
        return (
            f"{folder} holds a run that was stopped and no result yet; prune with the same model "
            f"and plan and --out {folder} goes on with it"
        )
    if not any(folder.iterdir()):
        return f"{folder} is an empty folder; name a model, or a project that prune --out wrote"
    return (
        f"{folder} holds neither a {FILE} nor a config.json, so it is no project and no Hugging "
        "Face model; name another folder, or a file of weights in it"
    )


def _model_of(folder: Path) -> str:
    """The address of a project's model after a comma; empty where its file does not say."""
    try:
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return f", {data['model']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
