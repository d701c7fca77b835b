"""Runs the CUDA sources on the CPU: g++ compiles them under emulation.h, which tells the rules.

Compiled sources are kept under the system's temporary folder by a hash of all that goes into them.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from secateur.kernels.cuda.launch import Argument, launching
from secateur.kernels.cuda.source import Source

_HEADER = Path(__file__).with_name("emulation.h")
# Checks abort through emulation.h; contraction would add fused products that no one wrote.
_COMMAND = (
    *("g++", "-O1", "-std=c++20", "-shared", "-fPIC", "-w", "-fvisibility=hidden"),
    *("-ffp-contract=off", "-fno-strict-aliasing", "-fno-sanitize-recover=all"),
    "-fsanitize=bounds,alignment,integer-divide-by-zero,shift-exponent",
)
_GUARD = 256
_ENTRY = """
extern "C" __attribute__((visibility("default")))
const char* run_{name}(const unsigned* grid, const unsigned* block, unsigned shared,
                                  void** args, const char* kinds) {{
    return emulation::run_kernel({name}, grid, block, shared, args, kinds);
}}
"""


class EmulationError(Exception):
    """The kernel did what would be undefined on a GPU."""


@contextmanager
def emulated() -> Iterator[list[str]]:
    """Every launch of this context runs on the CPU, with CPU tensors.

    Gives the names of the kernels that have run, in their order.
    """
    ran: list[str] = []

    def launch(source: Source, function: str, *rest: Any) -> None:
        _launch(source, function, *rest)
        ran.append(function)

    with launching(launch):
        yield ran


def _launch(
    source: Source,
    function: str,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    args: Sequence[Argument],
    variant: Mapping[str, str],
    shared: int,
) -> None:
    if source.tensor_cores:
        pytest.skip(f"{source.path.name} uses tensor cores: not emulated")
    assert function in source.functions, f"{function} is not in SOURCE.functions"
    assert variant in source.variants, f"{variant} is not in SOURCE.variants"
    with _guarded(args) as addresses:
        values = [
            ctypes.c_void_p(addresses[i])
            if isinstance(arg, Tensor)
            else ctypes.c_float(arg)
            if isinstance(arg, float)
            else ctypes.c_longlong(arg)
            for i, arg in enumerate(args)
        ]
        kinds = "".join(
            "p" if isinstance(arg, Tensor) else "f" if isinstance(arg, float) else "i"
            for arg in args
        )
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        run = getattr(library(source.text(variant), source.functions), f"run_{function}")
        three = ctypes.c_uint * 3
        failure = run(three(*grid), three(*block), shared, pointers, kinds.encode())
        if failure is not None:
            raise EmulationError(f"{function} in {source.path.name}: {failure.decode()}")


@contextmanager
def _guarded(args: Sequence[Argument]) -> Iterator[dict[int, int]]:
    """Addresses of copies of the tensors, by place: what lies around them is NaN and watched.

    Tensors that share memory share it in the copy too; the copies are written back at the end.
    """
    storages = {}
    for arg in args:
        if isinstance(arg, Tensor) and arg.numel():
            assert arg.device.type == "cpu", f"emulation needs CPU tensors, not {arg.device}"
            storages[arg.untyped_storage().data_ptr()] = arg.untyped_storage()
    buffers, copies = [], {}
    for start, storage in storages.items():
        buffer = ctypes.create_string_buffer(b"\xff" * (storage.nbytes() + 3 * _GUARD))
        buffers.append(buffer)
        # As aligned as memory of the GPU is.
        copies[start] = -(-ctypes.addressof(buffer) // _GUARD + -1) * _GUARD
        ctypes.memmove(copies[start], start, storage.nbytes())
    yield {
        i: copies[start := arg.untyped_storage().data_ptr()] + arg.data_ptr() - start
        if arg.numel()
        else 0
        for i, arg in enumerate(args)
        if isinstance(arg, Tensor)
    }
    for start, storage in storages.items():
        before = ctypes.string_at(copies[start] - _GUARD, _GUARD)
        after = ctypes.string_at(copies[start] + storage.nbytes(), _GUARD)
        if before + after != b"\xff" * (2 * _GUARD):
            raise EmulationError(f"a write outside of a tensor of {storage.nbytes()} bytes")
        ctypes.memmove(start, copies[start], storage.nbytes())


@cache
def library(text: str, functions: tuple[str, ...]) -> ctypes.CDLL:
    """The compiled source with a ``run_NAME`` for each of its kernels."""
    entries = "".join(_ENTRY.format(name=name) for name in functions)
    # In a namespace without a name every static is the file's own, also in templates.
    program = f'#include "{_HEADER}"\nnamespace {{\n{text}\n}}\n{entries}'
    key = hashlib.sha256("\0".join((*_COMMAND, _HEADER.read_text(), program)).encode())
    built = _folder() / f"{key.hexdigest()[:32]}.so"
    if not built.exists():
        with tempfile.TemporaryDirectory(dir=built.parent) as folder:
            cpp, so = Path(folder) / "kernel.cpp", Path(folder) / "kernel.so"
            cpp.write_text(program)
            done = subprocess.run(
                [*_COMMAND, "-o", so, cpp], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            so.replace(built)
    loaded = ctypes.CDLL(str(built))
    for name in functions:
        getattr(loaded, f"run_{name}").restype = ctypes.c_char_p
    return loaded


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"secateur-emulation-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    assert folder.stat().st_uid == os.getuid(), f"{folder} belongs to somebody else"
    return folder
