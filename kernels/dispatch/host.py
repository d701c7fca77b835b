"""What about this machine decides how fast something is, as plain values to look up."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ..compiled.jit import compiler
from ..processor import cpu_name

Json = dict[str, Any]


def facts(device: torch.device) -> Json:
    """The processor or GPU, its threads, how idle threads wait, and the versions of what computes.

    Two machines with the same answers are taken to be equally fast.
    """
    if device.type == "cuda":
        versions = {"torch": torch.__version__, "cuda": str(torch.version.cuda)}
        return {"machine": torch.cuda.get_device_name(device), "versions": versions}
    return {
        "machine": cpu_name(),
        "threads": torch.get_num_threads(),
        "waiting": os.environ.get("OMP_WAIT_POLICY", "").lower(),
        "versions": {"torch": torch.__version__, "numba": compiler()},
    }


@cache
def kernels() -> str:
    """A digest of the kernels' sources: what was measured of other ones says nothing of these."""
    total = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for file in sorted([*folder.rglob("*.py"), *folder.rglob("*.cu*")]):
        total.update(file.read_bytes())
    return total.hexdigest()[:16]
