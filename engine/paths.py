"""Paths as a person types them."""

from __future__ import annotations

import os
from pathlib import Path


def local_path(text: str) -> Path:
    """The path with ``~`` and environment variables filled in."""
    return Path(os.path.expandvars(text)).expanduser()
