"""Starting kernels without a GPU: what is sent where, what a source is; imports are free."""

from __future__ import annotations

import contextvars
import json
import subprocess
import sys
import threading
from importlib.util import find_spec

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from secateur.kernels.cuda.launch import CudaFault, launch, launchable, launching
from secateur.kernels.cuda.source import Source, common_scalar, scalar, sources


@pytest.fixture
def sent():
    """What arrives at a launcher, in a list."""
    return []


@pytest.fixture
def launcher(sent):
    return lambda *args: sent.append(args)


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path / "kernel.cu", ("kernel",))


def test_a_launch_goes_to_the_launcher_of_the_context(source, sent, launcher):
    x = torch.zeros(2)
    with launching(launcher):
        launch(source, "kernel", (3,), (4, 2), (x, 1, 2.0), variant={"T": "half"}, shared=8)
    assert sent == [
        (source, "kernel", (3, 1, 1), (4, 2, 1), (x, 1, 2.0), {"T": "half"}, 8),
    ]


def test_a_grid_without_blocks_is_no_work(source, sent, launcher):
    with launching(launcher):
        launch(source, "kernel", (4, 0), (1,), ())
    assert sent == []


def test_launchers_nest_and_stay_in_their_context(source, sent, launcher):
    x, other = torch.zeros(2), []
    assert not launchable(x)
    with launching(lambda *args: other.append(args)):
        with launching(launcher):
            assert launchable(x)
            launch(source, "kernel", (1,), (1,), ())
            outside = contextvars.Context().run(launchable, x)
        launch(source, "kernel", (1,), (1,), ())
        seen = []
        thread = threading.Thread(target=lambda: seen.append(launchable(x)))
        thread.start()
        thread.join()
    assert (len(sent), len(other)) == (1, 1)
    assert not outside
    assert seen == [False]
    assert not launchable(x)


def test_a_launcher_goes_even_after_an_error(launcher):
    with pytest.raises(KeyError), launching(launcher):
        raise KeyError
    assert not launchable(torch.zeros(1))


def test_tensors_of_the_cpu_are_refused(source):
    with pytest.raises(ValueError, match="kernel needs its tensors on one GPU; they are on: cpu"):
        launch(source, "kernel", (1,), (1,), (torch.zeros(1), 2))


@pytest.mark.skipif(find_spec("cupy") is None, reason="CuPy is not installed")
def test_a_fault_of_cuda_names_the_kernel_and_the_shapes(source):
    """Tensors of a GPU without memory behind them: neither CUDA nor its absence can run this."""
    with FakeTensorMode():
        x, y = torch.empty(2, 3, device="cuda"), torch.empty(0, device="cuda")
        with pytest.raises(CudaFault) as fault:
            launch(source, "kernel", (1,), (32,), (x, y, 7), variant={"T": "half"}, shared=8)
    words = str(fault.value)
    assert words.startswith(
        "kernel (T=half) failed on cuda:0 with grid (1, 1, 1), block (32, 1, 1)"
    )
    assert "8 bytes of shared memory and arguments [[2, 3], [0], 7]: " in words
    assert words.endswith("A fault may be that of an earlier kernel; CUDA_LAUNCH_BLOCKING=1 tells.")
    assert "\n" not in words


def test_the_text_holds_macros_and_includes_once(tmp_path):
    (tmp_path / "own.cuh").write_text('#include "types.cuh"\n// own\n')
    path = tmp_path / "kernel.cu"
    path.write_text('// first\n#include "types.cuh"\n#include "own.cuh"\n// last\n')
    lines = Source(path, ()).text({"T": "half", "N": "3"}).splitlines()
    assert lines[:4] == ["#define T half", "#define N 3", '#line 1 "kernel.cu"', "// first"]
    assert lines.count("struct half {") == 1
    assert "// own" in lines
    assert lines[-2:] == ['#line 4 "kernel.cu"', "// last"]


def test_scalars():
    assert [scalar(t) for t in (torch.float32, torch.float16, torch.bfloat16, torch.float64)] == [
        "float", "half", "bfloat16", "double",
    ]  # fmt: skip
    with pytest.raises(TypeError, match=r"torch\.int32"):
        scalar(torch.int32)
    x = torch.zeros(1)
    assert common_scalar(x, None, x) == "float"
    with pytest.raises(TypeError, match=r"not torch\.float16 and torch\.float32"):
        common_scalar(x, x.half())
    with pytest.raises(TypeError, match=r"not torch\.float64"):
        common_scalar(x.double())


def test_every_source_is_found_and_says_what_it_does():
    found = {source.path.name: source for source in sources()}
    assert {"csr_spmm.cu", "sddmm.cu"} <= set(found)
    for name, source in found.items():
        assert source.functions, name
        assert source.variants, name
        top = source.path.read_text().partition("#include")[0]
        assert "bytes" in top.lower(), f"{name} does not say what it moves"
        assert "operations" in top.lower(), f"{name} does not say what it computes"


def test_importing_the_kernels_starts_no_cuda():
    program = """
import importlib, json, pkgutil, sys
import secateur.kernels as package
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
import torch
roots = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({"roots": sorted(roots), "cuda": torch.cuda.is_initialized()}))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd="/")
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert not {"cupy", "cupy_backends", "cupyx"} & set(result["roots"])
    assert result["cuda"] is False
