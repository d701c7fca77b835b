"""Starting a CUDA kernel: through CuPy on torch's current stream, or wherever a test sends it.

CuPy is imported at the first launch, never before.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .source import Source

Argument = Tensor | int | float
OPTIONS = ("-std=c++17",)
# More dynamic shared memory than this must be asked for; then all that the device has is.
_PLAIN_SHARED = 48 << 10
_NO_VARIANT: Mapping[str, str] = {}


class CudaFault(RuntimeError):
    """A kernel did not compile or did not start, or the device reported an earlier fault."""


class Launcher(Protocol):
    """What can take the place of CUDA; the arguments are those of `launch`."""

    def __call__(
        self,
        source: Source,
        function: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: Sequence[Argument],
        variant: Mapping[str, str],
        shared: int,
    ) -> None: ...


def launch(
    source: Source,
    function: str,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    args: Sequence[Argument],
    *,
    variant: Mapping[str, str] = _NO_VARIANT,
    shared: int = 0,
) -> None:
    """Run a kernel of `source`, compiled with the macros of `variant`.

    `grid` and `block` have one to three extents; a grid without blocks is no work and returns at
    once. A tensor becomes the pointer to its first element (null if it is empty), an int a
    ``long long``, a float a ``float``. `shared` is dynamic shared memory in bytes. Runs on the
    current stream of the tensors' device and does not wait for it. Raises CudaFault where CUDA
    does, with the name of the kernel and the shapes of its arguments.
    """
    x, y, z = (*grid, 1, 1)[:3]
    if x and y and z:
        bx, by, bz = (*block, 1, 1)[:3]
        _LAUNCHER.get()(source, function, (x, y, z), (bx, by, bz), args, variant, shared)


def launchable(*tensors: Tensor) -> bool:
    """Whether `launch` runs on these: something stands in for CUDA, or a GPU and CuPy are there."""
    if _LAUNCHER.get() is not _launch_cuda:
        return True
    return all(tensor.is_cuda for tensor in tensors) and _cupy_is_here()


@contextmanager
def launching(launcher: Launcher) -> Iterator[None]:
    """Send every launch of this context to `launcher`."""
    token = _LAUNCHER.set(launcher)
    try:
        yield
    finally:
        _LAUNCHER.reset(token)


def compiled(text: str, arch: int) -> bytes:
    """Compile a source for ``sm_{arch}`` to a cubin; needs NVRTC, but no GPU and no driver.

    Raises CudaFault with the compiler's messages.
    """
    nvrtc = importlib.import_module("cupy_backends.cuda.libs.nvrtc")
    program = nvrtc.createProgram(text, "kernel.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*OPTIONS, f"--gpu-architecture=sm_{arch}"))
        return nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError as error:
        raise CudaFault(nvrtc.getProgramLog(program).strip() or str(error)) from None
    finally:
        nvrtc.destroyProgram(program)


@cache
def _cupy_is_here() -> bool:
    return importlib.util.find_spec("cupy") is not None


def _launch_cuda(
    source: Source,
    function: str,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    args: Sequence[Argument],
    variant: Mapping[str, str],
    shared: int,
) -> None:
    devices = {arg.device for arg in args if isinstance(arg, Tensor)}
    if len(devices) != 1 or {device.type for device in devices} != {"cuda"}:
        places = ", ".join(sorted(map(str, devices)))
        raise ValueError(f"{function} needs its tensors on one GPU; they are on: {places}")
    (device,) = devices
    import cupy

    try:
        with cupy.cuda.Device(device.index):
            macros = tuple(sorted(variant.items()))
            kernel = _kernel(source.path, function, macros, device.index, shared > _PLAIN_SHARED)
            with _stream(torch.cuda.current_stream(device)):
                kernel(grid, block, tuple(map(_value, args)), shared_mem=shared)
    except Exception as error:  # the driver's, the runtime's and the compiler's have no one base
        shapes = [list(arg.shape) if isinstance(arg, Tensor) else arg for arg in args]
        macros_text = " ".join(f"{name}={value}" for name, value in variant.items())
        raise CudaFault(
            f"{function} ({macros_text}) failed on {device} with grid {grid}, block {block}, "
            f"{shared} bytes of shared memory and arguments {shapes}: {error}. A fault may be "
            "that of an earlier kernel; CUDA_LAUNCH_BLOCKING=1 tells."
        ) from error


@cache
def _kernel(
    path: Path, function: str, macros: tuple[tuple[str, str], ...], device: int, much_shared: bool
) -> Any:
    kernel = _module(path, macros).get_function(function)
    if much_shared:
        most = torch.cuda.get_device_properties(device).shared_memory_per_block_optin
        kernel.max_dynamic_shared_size_bytes = most - kernel.shared_size_bytes
    return kernel


@cache
def _module(path: Path, macros: tuple[tuple[str, str], ...]) -> Any:
    import cupy

    text = Source(path, ()).text(dict(macros))
    return cupy.RawModule(code=text, options=OPTIONS, backend="nvrtc")


@cache
def _stream(stream: torch.cuda.Stream) -> Any:
    import cupy

    return cupy.cuda.Stream.from_external(stream)


def _value(arg: Argument) -> Any:
    if isinstance(arg, Tensor):
        return np.uint64(arg.data_ptr())
    return np.float32(arg) if isinstance(arg, float) else np.int64(arg)


_LAUNCHER: ContextVar[Launcher] = ContextVar("launcher", default=_launch_cuda)

__all__ = ["OPTIONS", "CudaFault", "Launcher", "compiled", "launch", "launchable", "launching"]
