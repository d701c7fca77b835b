"""What the GPU is, what it does at best, and how the kernels compile for it."""

from __future__ import annotations

import platform
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from secateur import __version__
from secateur.engine.machine import describe
from secateur.kernels.cuda.launch import OPTIONS, compiled
from secateur.kernels.cuda.source import Source, sources
from secateur.kernels.dispatch.timing import time_interleaved
from secateur.tests.bench.gpu.setting import (
    Case,
    Json,
    Setting,
    distance,
    fp32_precision,
    reason,
    trimmed,
)

# Name of the rate, dtype, what fp32 may be rounded to, and the relative error that shows which.
RATES = (
    ("fp32", torch.float32, "ieee", (0.0, 3e-6)),
    ("tf32", torch.float32, "tf32", (3e-5, 2e-3)),
    ("bf16", torch.bfloat16, "ieee", (0.0, 1e-2)),
    ("fp16", torch.float16, "ieee", (0.0, 2e-3)),
)
BANDWIDTH = "bandwidth"
_THREADS = 12


def cases(setting: Setting) -> list[Case]:
    return [
        Case("machine", "machine", _machine),
        Case("limits", BANDWIDTH, _copy),
        *(
            Case("limits", name, partial(_product, dtype, word, errors))
            for name, dtype, word, errors in RATES
        ),
        *(
            Case("limits", f"convolution {name}", partial(_convolution, word, errors))
            for name, _, word, errors in RATES[:2]
        ),
        Case("compilation", "all sources", _compile, patience=240.0),
    ]


def _machine(setting: Setting, _: float) -> Json:
    known = describe()
    found = {
        "kind": "machine",
        "secateur": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": known["cpu"],
        "model": known["cpu"],
        "dry": setting.quick or not setting.on_gpu,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if setting.on_gpu else None,
        "cupy": _cupy_version(),
        "driver": _driver(),
    }
    if setting.on_gpu:
        properties = torch.cuda.get_device_properties(setting.device)
        found |= {
            "model": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory": properties.total_memory,
            "cache": getattr(properties, "L2_cache_size", None),
        }
    return found


def _cupy_version() -> str | None:
    try:
        import cupy
    except ImportError:
        return None
    return str(cupy.__version__)


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        text = subprocess.check_output(command, text=True, timeout=20, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return text.strip().splitlines()[0] if text.strip() else None


def _copy(setting: Setting, seconds: float) -> Json:
    """Bytes read and written in a second by a copy that no cache holds."""
    source = torch.randn((1 << 20) if setting.quick else (1 << 29), device=setting.device)
    target = torch.empty_like(source)
    ms = _least(partial(target.copy_, source), setting, seconds)
    return {"kind": "limit", "per_second": 2e3 * source.nbytes / ms}


def _product(
    dtype: torch.dtype, word: str, errors: tuple[float, float], setting: Setting, seconds: float
) -> Json:
    """Operations in a second by a large product of random numbers."""
    side = 256 if setting.quick else 8192
    a, b = (setting.randn(side, side, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    with fp32_precision(word):
        ms = _least(partial(torch.mm, a, b, out=out), setting, seconds)
        few = a[:256] @ b
    _rounded(distance(few, a[:256].double() @ b.double()), errors, setting)
    return {"kind": "limit", "per_second": 2e3 * side**3 / ms}


def _convolution(word: str, errors: tuple[float, float], setting: Setting, seconds: float) -> Json:
    """Whether the library's convolutions keep to the precision that they are told."""
    x, weight = setting.randn(2, 64, 28, 28), setting.randn(64, 64, 3, 3, fan=576)
    conv = partial(torch.nn.functional.conv2d, padding=1)
    with fp32_precision(word):
        ms = _least(partial(conv, x, weight), setting, seconds / 4)
        found = conv(x, weight)
    # Winograd's transforms lose some of fp32's digits.
    error = distance(found, conv(x.double(), weight.double()))
    _rounded(error, (errors[0], 10 * errors[1]), setting)
    return {"kind": "limit", "per_second": 2e3 * weight.numel() * 2 * 28 * 28 / ms}


def _rounded(error: float, errors: tuple[float, float], setting: Setting) -> None:
    """The error must be one of the precision that was asked for; the CPU knows no tf32."""
    least = errors[0] if setting.on_gpu else 0.0
    if not least <= error <= errors[1]:
        raise RuntimeError(f"error {error:.1e} is not that of this precision, {errors}")


def _least(call: object, setting: Setting, seconds: float) -> float:
    """Milliseconds of a call, the lower quartile."""
    return time_interleaved({"": call}, seconds=seconds, device=setting.device.type)[""].q1


def _compile(setting: Setting, _: float) -> Json:
    """Every variant of every source, several at a time, into CuPy's cache on disk."""
    jobs = [
        (source, dict(sorted(variant.items())))
        for source in sources()
        if source.min_arch <= _arch(setting)
        for variant in trimmed(source.variants, setting)
    ]
    begin = time.perf_counter()
    with ThreadPoolExecutor(_THREADS if setting.on_gpu else 2) as pool:
        found = list(pool.map(lambda job: _compiled(*job, setting), trimmed(jobs, setting, 3)))
    return {"kind": "compiled", "kernels": found, "wall": time.perf_counter() - begin}


def _arch(setting: Setting) -> int:
    if not setting.on_gpu:
        return 90
    major, minor = torch.cuda.get_device_capability(setting.device)
    return 10 * major + minor


def _compiled(source: Source, variant: dict[str, str], setting: Setting) -> Json:
    """Seconds, and for each function its registers and bytes of local and shared memory."""
    row: Json = {
        "source": f"{source.path.parent.name}/{source.path.stem}",
        "variant": variant,
        "functions": {},
    }
    begin = time.perf_counter()
    try:
        text = source.text(variant)
        if setting.on_gpu:
            row["functions"] = _loaded(text, source.functions, setting.device.index or 0)
        else:
            compiled(text, _arch(setting))
    except Exception as error:
        row["reason"] = reason(error)
    return row | {"seconds": time.perf_counter() - begin}


def _loaded(text: str, functions: tuple[str, ...], device: int) -> Json:
    """Compile and load as `launch` does, so that it finds the result in the cache."""
    import cupy

    with cupy.cuda.Device(device):
        module = cupy.RawModule(code=text, options=OPTIONS, backend="nvrtc")
        kernels = {name: module.get_function(name) for name in functions}
        return {
            name: [kernel.num_regs, kernel.local_size_bytes, kernel.shared_size_bytes]
            for name, kernel in kernels.items()
        }
