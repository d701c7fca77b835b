"""What this machine can do: GPU, compilers, runtimes, threads. Nothing here changes anything."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from .machine import describe

_KERNEL = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2.0f; }'
_LITTLE_MEMORY = 4 << 30
_USUAL_ARCH = 90  # what kernels are tried for where there is no GPU


@dataclass(frozen=True)
class Finding:
    """One row: `text` says what there is, `advice` what to do where `ok` is False."""

    name: str
    ok: bool
    text: str
    advice: str = ""


def examine() -> dict[str, Any]:
    """Return ``{"machine", "checks": [{"name", "ok", "text", "advice"}]}`` as plain values.

    A check that fails is a row with ``ok`` false, never an error.
    """
    machine = describe()
    checks: list[Callable[[dict[str, Any]], Finding]] = [
        _gpu, _cuda, _cupy, _nvrtc, _kernels, _loops, _onnxruntime, _qt, _threads, _waiting,
        _memory,
    ]  # fmt: skip
    rows = [check(machine) for check in checks]
    return {"machine": machine, "checks": [asdict(row) for row in rows]}


def render(result: dict[str, Any]) -> str:
    """What `examine` returned, as lines for a person."""
    machine = result["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} logical processors",
        f"{machine['os']}, Python {machine['python']}, torch {machine['torch']}",
        "",
    ]
    for row in result["checks"]:
        mark = "ok" if row["ok"] else "--"
        lines.append(f"{mark}  {row['name']:<13} {row['text']}")
        if not row["ok"] and row["advice"]:
            lines.append(f"    {'':<13} {row['advice']}")
    return "\n".join(lines)


def _gpu(machine: dict[str, Any]) -> Finding:
    cuda = machine["cuda"]
    if cuda is None:
        return Finding(
            "GPU",
            False,
            "none that torch can use; everything runs on the CPU",
            "with an NVIDIA GPU, install its driver; nvidia-smi has to list it",
        )
    memory = f"{cuda['memory'] / 2**30:.0f} GiB"
    return Finding(
        "GPU", True, f"{cuda['name']}, {memory}, compute capability {cuda['capability']}"
    )


def _cuda(machine: dict[str, Any]) -> Finding:
    import torch

    version = torch.version.cuda
    if version is None:
        advice = "for a GPU, install a CUDA build of torch (pytorch.org says how)"
        return Finding("CUDA", False, "this torch is built for the CPU only", advice)
    return Finding("CUDA", True, f"torch is built for CUDA {version}")


def _cupy(machine: dict[str, Any]) -> Finding:
    advice = "for CUDA kernels of our own: pip install 'secateur[cuda]'"
    try:
        import cupy
    except Exception as error:  # a broken installation raises whatever its loader raises
        return Finding("CuPy", False, f"cannot be imported: {_short(error)}", advice)
    return Finding("CuPy", True, f"version {cupy.__version__}")


def _nvrtc(machine: dict[str, Any]) -> Finding:
    advice = "NVRTC comes with torch's CUDA build and with pip install 'secateur[cuda]'"
    try:
        nvrtc = importlib.import_module("cupy_backends.cuda.libs.nvrtc")
        major, minor = nvrtc.getVersion()
        program = nvrtc.createProgram(_KERNEL, "twice.cu", (), ())
        try:
            nvrtc.compileProgram(program, ("--gpu-architecture=sm_90",))
            size = len(nvrtc.getCUBIN(program))
        finally:
            nvrtc.destroyProgram(program)
    except Exception as error:  # missing libraries show as any kind of error
        return Finding("NVRTC", False, f"compiles no kernel: {_short(error)}", advice)
    return Finding("NVRTC", True, f"version {major}.{minor} compiled a kernel to {size} bytes")


def _kernels(machine: dict[str, Any]) -> Finding:
    """Compile each CUDA source in the first of its variants, for the GPU that is there."""
    from ..kernels.cuda.launch import compiled
    from ..kernels.cuda.source import Source, sources

    cuda = machine["cuda"]
    arch = _USUAL_ARCH if cuda is None else int(cuda["capability"].replace(".", ""))

    def fault(source: Source) -> str | None:
        try:
            compiled(source.text(source.variants[0]), arch)
        except Exception as error:  # a missing library and a refused source alike
            return f"{source.path.stem}: {_short(error)}"
        return None

    found = [source for source in sources() if source.min_arch <= arch]
    with ThreadPoolExecutor(machine["cores"]) as pool:
        faults = [text for text in pool.map(fault, found) if text is not None]
    text = f"{len(found) - len(faults)} of {len(found)} CUDA sources compile for sm_{arch}"
    if not faults:
        return Finding("kernels", True, text)
    advice = "CuPy and NVRTC have to be there and know this GPU; if they do, please report this"
    return Finding("kernels", False, f"{text}; {faults[0]}", advice)


def _loops(machine: dict[str, Any]) -> Finding:
    from ..kernels.compiled.ahead import filled
    from ..kernels.compiled.cache import loops_folder
    from ..kernels.compiled.jit import compiler

    version = compiler()
    if version is None:
        advice = "pip install numba; until then torch's own operations serve, slower"
        return Finding("CPU loops", False, "numba cannot be imported", advice)
    if loops_folder() is None:
        advice = "make the cache folder writable, or name one in NUMBA_CACHE_DIR"
        return Finding("CPU loops", False, "compiled anew by every program that starts", advice)
    when = "compiled for this machine" if filled() else "compiled at the first use, once: seconds"
    return Finding("CPU loops", True, f"numba {version}: {when}")


def _onnxruntime(machine: dict[str, Any]) -> Finding:
    try:
        import onnxruntime
    except Exception as error:  # its native part raises whatever its loader raises
        text = f"cannot be imported: {_short(error)}"
        return Finding("ONNX Runtime", False, text, "pip install onnxruntime")
    providers = ", ".join(
        p.removesuffix("ExecutionProvider") for p in onnxruntime.get_available_providers()
    )
    return Finding("ONNX Runtime", True, f"version {onnxruntime.__version__}: {providers}")


def _qt(machine: dict[str, Any]) -> Finding:
    # Looked for, not imported: the engine knows no window.
    found = [importlib.util.find_spec(name) is not None for name in ("PySide6", "pyqtgraph")]
    if not all(found):
        advice = "pip install pyside6-essentials pyqtgraph; the command line needs neither"
        return Finding("Qt", False, "the studio cannot open", advice)
    version = importlib.metadata.version("PySide6_Essentials")
    return Finding("Qt", True, f"PySide6 {version}")


def _threads(machine: dict[str, Any]) -> Finding:
    threads, cores = machine["threads"], machine["cores"]
    text = f"torch computes with {threads}; {cores} logical processors are there"
    advice = "set OMP_NUM_THREADS to at most that number"
    return Finding("threads", threads <= cores, text, advice)


def _waiting(machine: dict[str, Any]) -> Finding:
    policy = os.environ.get("OMP_WAIT_POLICY", "").lower()
    advice = "set OMP_WAIT_POLICY=passive before the start: a busy core makes times useless without"
    text = f"OMP_WAIT_POLICY is {policy or 'not set'}"
    return Finding("waiting", policy == "passive", text, advice)


def _memory(machine: dict[str, Any]) -> Finding:
    memory = machine["memory"]
    if memory is None:
        return Finding("memory", True, "not known")
    advice = "large models may not fit; close other programs or take smaller batches"
    return Finding("memory", memory >= _LITTLE_MEMORY, f"{memory / 2**30:.1f} GiB", advice)


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


__all__ = ["Finding", "examine", "render"]
