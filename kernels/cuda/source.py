"""Where the CUDA sources are and what they are compiled with. Reading them needs no CUDA."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

_HERE = Path(__file__).parent
_KERNELS = _HERE.parent
_PACKAGE = __name__.rsplit(".", 2)[0]
_INCLUDE = re.compile(r'#include "(\w+\.cuh)"')
_SCALARS = {
    torch.float32: "float",
    torch.float16: "half",
    torch.bfloat16: "bfloat16",
    torch.float64: "double",
}


@dataclass(frozen=True, eq=False)
class Source:
    """A .cu file: `functions` are its kernels by name, all ``extern "C" __global__``.

    `variants` are the macro settings that its wrapper uses; the tests compile every one. Sources
    that use tensor-core instructions say so: they cannot be emulated. `min_arch` is the oldest
    compute capability that the source compiles for, as in sm_75.
    """

    path: Path
    functions: tuple[str, ...]
    variants: tuple[Mapping[str, str], ...] = ({},)
    tensor_cores: bool = False
    min_arch: int = 75

    def text(self, variant: Mapping[str, str] | None = None) -> str:
        """The whole source: the macros of `variant`, then the file with its own includes put in.

        An include in quotes is looked for beside the file and beside this module, and put in once.
        """
        macros = "".join(f"#define {name} {value}\n" for name, value in (variant or {}).items())
        return macros + _unfolded(self.path, set())


def _unfolded(path: Path, seen: set[Path]) -> str:
    """A file's text with the files it includes; `#line` lets the compiler name the right lines."""
    if path in seen:
        return "\n"
    seen.add(path)
    lines = [f'#line 1 "{path.name}"']
    for number, line in enumerate(path.read_text().splitlines(), 1):
        include = _INCLUDE.fullmatch(line)
        if include is None:
            lines.append(line)
            continue
        beside = path.with_name(include[1])
        header = beside if beside.exists() else _HERE / include[1]
        lines += [_unfolded(header, seen), f'#line {number + 1} "{path.name}"']
    return "\n".join(lines) + "\n"


def scalar(dtype: torch.dtype) -> str:
    """The C name of a floating dtype, for a macro such as T; raises TypeError for others."""
    try:
        return _SCALARS[dtype]
    except KeyError:
        raise TypeError(f"no kernel computes in {dtype}") from None


def common_scalar(*tensors: Tensor | None) -> str:
    """The C name of the one dtype of all these: fp32, fp16 or bf16; TypeError for anything else."""
    dtypes = {tensor.dtype for tensor in tensors if tensor is not None}
    if len(dtypes) > 1 or torch.float64 in dtypes:
        names = " and ".join(sorted(map(str, dtypes)))
        raise TypeError(f"a kernel takes one of float32, float16 and bfloat16, not {names}")
    return scalar(dtypes.pop())


def sources() -> list[Source]:
    """Every CUDA source in the package, each from the module of the same name beside it."""
    found = []
    for path in sorted(_KERNELS.rglob("*.cu")):
        module = ".".join((_PACKAGE, *path.relative_to(_KERNELS).with_suffix("").parts))
        found.append(importlib.import_module(module).SOURCE)
    return found


__all__ = ["Source", "common_scalar", "scalar", "sources"]
