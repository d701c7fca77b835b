"""What this machine is, for measurements and the doctor."""

from __future__ import annotations

import os
import platform
from typing import Any


def describe() -> dict[str, Any]:
    """This machine as plain values.

    ``cpu`` is the processor's name, ``cores`` the logical processors that this process may use,
    ``threads`` those that torch computes with, ``memory`` bytes of RAM (None if unknown), ``torch``
    its version, ``cuda`` a mapping of the first GPU's ``name``, ``capability``, ``memory`` in bytes
    and CUDA's ``version``, or None. ``omp_wait_policy`` is what OpenMP was told (None: nothing).
    """
    import torch

    from ..kernels.processor import cpu_name

    return {
        "cpu": cpu_name(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "memory": _memory(),
        "torch": torch.__version__,
        "cuda": _cuda(),
        "os": platform.platform(terse=True),
        "python": platform.python_version(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
    }


def _cuda() -> dict[str, Any] | None:
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory": properties.total_memory,
        "version": torch.version.cuda,
    }


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return _windows_memory()


def _windows_memory() -> int | None:
    import ctypes

    kernel = getattr(getattr(ctypes, "windll", None), "kernel32", None)
    kilobytes = ctypes.c_ulonglong()
    asked = kernel and kernel.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
    return kilobytes.value * 1024 if asked else None
