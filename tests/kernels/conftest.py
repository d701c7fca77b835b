"""The backends that a kernel's test runs on, and outputs that start poisoned."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import emulate as emulation
import pytest
import torch


@dataclass(frozen=True)
class Backend:
    """Where an operation runs: the CPU path, the .cu through g++, or a GPU."""

    name: str

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.name == "cuda" else "cpu")

    def active(self) -> AbstractContextManager[None]:
        """Inside of it, public functions with tensors on `device` take this backend."""
        return emulation.emulated() if self.name == "emulated" else nullcontext()


_NAMES = ("torch", "emulated", *(("cuda",) if torch.cuda.is_available() else ()))


@pytest.fixture(params=_NAMES)
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "emulated" and shutil.which("g++") is None:
        pytest.skip("no g++ here")
    return Backend(request.param)


@pytest.fixture
def emulate():
    """The module emulation/emulate.py."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    return emulation


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is asked for without content comes as NaN, or as the largest integer."""

    def poisoning(allocate):
        def poison(*args, **kwargs):
            tensor = allocate(*args, **kwargs)
            if tensor.dtype.is_floating_point:
                return tensor.fill_(torch.nan)
            return tensor.fill_(
                True if tensor.dtype == torch.bool else torch.iinfo(tensor.dtype).max
            )

        return poison

    for owner, name in (
        (torch, "empty"),
        (torch, "empty_like"),
        (torch, "empty_strided"),
        (torch.Tensor, "new_empty"),
    ):
        monkeypatch.setattr(owner, name, poisoning(getattr(owner, name)))
