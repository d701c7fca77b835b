"""Where the studio keeps the person's things: runs, and plans that were not saved yet."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from PySide6.QtCore import QStandardPaths

from ...engine.errors import BadInput
from ...engine.plan import Plan


def default_home() -> Path:
    """The per-user folder for the application's data."""
    place = QStandardPaths.StandardLocation.AppDataLocation
    return Path(QStandardPaths.writableLocation(place))


class Home:
    """A folder with ``runs/`` (one project per run) and ``plans/`` (one autosave per model)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def new_run(self, name: str) -> Path:
        """A fresh folder for a run of the model called `name`: ``runs/<name>-<number>``."""
        runs = self.root / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        slug = _slug(name)
        taken = {path.name for path in runs.iterdir()}
        number = 1
        while f"{slug}-{number}" in taken:
            number += 1
        return runs / f"{slug}-{number}"

    def runs(self) -> list[Path]:
        """The folders of all runs, by name."""
        folder = self.root / "runs"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def keep_plan(self, address: str, plan: Plan) -> None:
        """Write the plan beside the others, so that a crash of the studio costs nothing."""
        path = self._plan_path(address)
        if plan == Plan(model=address):
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.stem + ".new.yaml")
        plan.save(temporary)
        temporary.replace(path)

    def kept_plan(self, address: str) -> Plan | None:
        """The plan kept for a model, None without one or where it can no longer be read."""
        path = self._plan_path(address)
        try:
            return Plan.load(path) if path.exists() else None
        except BadInput:
            return None

    def _plan_path(self, address: str) -> Path:
        digest = hashlib.sha256(address.encode()).hexdigest()[:12]
        return self.root / "plans" / f"{_slug(address)[-40:]}-{digest}.yaml"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "model"
