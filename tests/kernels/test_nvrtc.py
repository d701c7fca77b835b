"""Every CUDA source compiles for every architecture; this needs NVRTC, but no GPU."""

from __future__ import annotations

import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from secateur.kernels.cuda.launch import CudaFault, compiled
from secateur.kernels.cuda.source import Source, sources

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("cupy") is None, reason="CuPy is not installed"
)


def jobs(source: Source) -> list[tuple[dict[str, str], int]]:
    """Each variant for some architecture and each architecture with some variant, dealt in turn.

    All with all would take minutes; no source here asks which architecture it is compiled for.
    """
    fitting = [arch for arch in ARCHITECTURES if arch >= source.min_arch]
    return [
        (source.variants[k % len(source.variants)], fitting[k % len(fitting)])
        for k in range(max(len(source.variants), len(fitting)))
    ]


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.path.stem)
def test_compiles(source: Source) -> None:
    dealt = jobs(source)
    assert "__CUDA_ARCH__" not in source.text(), "then all variants need all architectures"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        binaries = pool.map(lambda job: compiled(source.text(job[0]), job[1]), dealt)
        for (variant, arch), binary in zip(dealt, binaries, strict=True):
            for name in source.functions:
                assert f".text.{name}".encode() in binary, f"{name} {variant} sm_{arch}"


def test_a_mistake_is_named_with_its_line(tmp_path) -> None:
    path = tmp_path / "wrong.cu"
    path.write_text('#include "types.cuh"\nextern "C" __global__ void wrong(T* x) { *x = y; }\n')
    with pytest.raises(CudaFault, match=r'wrong\.cu\(2\): error: identifier "y" is undefined'):
        compiled(Source(path, ("wrong",)).text({"T": "half"}), 75)
