"""Where compiled loops are kept.

Importing this imports neither torch nor numba.
"""

from __future__ import annotations

import hashlib
import os
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from ..folders import cache_folder
from ..processor import cpu_name


@cache
def loops_folder() -> Path | None:
    """Where this person's loops are kept; None if they cannot be, or without numba.

    Apart for every state of the sources, numba, Python and processor: numba asks only whether the
    file of a loop has changed, not what it uses of others.
    """
    try:
        version = metadata.version("numba")
    except metadata.PackageNotFoundError:
        return None
    total = hashlib.sha256(f"{version} {sys.implementation.cache_tag} {cpu_name()}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        total.update(path.read_bytes())
    base = os.environ.get("NUMBA_CACHE_DIR")
    root = Path(base) if base else cache_folder() / "compiled"
    folder = root / total.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
