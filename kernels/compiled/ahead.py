"""Compiling all loops before they are needed.

Importing this imports neither torch nor numba.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from .cache import loops_folder

_FILLED = "filled"
"""An empty file beside the loops: none is missing."""
_NICE = 5


def filled() -> bool:
    """Whether there is nothing to compile ahead: all loops are kept, or none can be."""
    folder = loops_folder()
    return folder is None or (folder / _FILLED).exists()


def fill() -> None:
    """Compile every loop that is not kept yet, giving way to other processes; takes seconds.

    Modules whose loops are made for the sizes they meet have `prepare`, for those that are common.
    """
    from .jit import ready

    if hasattr(os, "nice"):
        os.nice(_NICE)
    folder = loops_folder()
    if folder is None or not ready():
        return
    package = __name__.rpartition(".")[0]
    for found in iter_modules([str(Path(__file__).parent)]):
        module = import_module(f"{package}.{found.name}")
        if hasattr(module, "prepare"):
            module.prepare()
    (folder / _FILLED).touch()
