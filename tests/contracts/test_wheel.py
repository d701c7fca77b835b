"""The wheel holds the whole tree and nothing else: a new folder cannot be forgotten."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHIPPED = ("engine", "kernels", "resources", "studio")


def tracked() -> set[str]:
    """Files of the shipped folders that a checkout has, by their path in the package."""
    files = [ROOT / "__init__.py", ROOT / "__main__.py", ROOT / "py.typed"]
    for folder in SHIPPED:
        files += [p for p in (ROOT / folder).rglob("*") if p.is_file()]
    return {
        f"secateur/{path.relative_to(ROOT).as_posix()}"
        for path in files
        if "__pycache__" not in path.parts
    }


def test_every_package_is_listed() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(config["tool"]["setuptools"]["packages"])
    found = {"secateur"} | {
        ".".join(("secateur", *path.parent.relative_to(ROOT).parts))
        for folder in SHIPPED
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert found == listed


def test_the_wheel_equals_the_tree(tmp_path: Path) -> None:
    # Building leaves files beside the sources and takes stale ones along: build from a copy.
    tree = tmp_path / "tree"
    unwanted = (".*", "build", "dist", "out", "tests", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*unwanted))
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == tracked()
