"""The walls between the folders, seen from a fresh interpreter."""

import json
import subprocess
import sys

HEAVY = ("torch", "torchvision", "transformers", "onnx", "onnxruntime", "onnxscript", "cupy")
WINDOW = ("PySide6", "pyqtgraph", "shiboken6")

PROGRAM = """
import importlib, json, pkgutil, sys
for name in {packages!r}:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(json.dumps(sorted(sys.modules)))
"""


def loaded(*packages):
    """Names of all modules in a fresh interpreter that imports every module of `packages`."""
    program = PROGRAM.format(packages=packages)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd="/")
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout))


def roots(modules):
    return {name.partition(".")[0] for name in modules}


def test_the_studio_holds_no_tensors():
    modules = loaded("secateur.studio")
    assert "secateur.studio.window" in modules
    assert "secateur.studio.canvas.canvas" in modules
    assert roots(modules).isdisjoint(HEAVY)


def test_the_engine_and_the_kernels_know_no_window():
    modules = loaded("secateur.engine", "secateur.kernels")
    assert "secateur.engine.server" in modules
    assert roots(modules).isdisjoint(WINDOW)
    assert not any(name.startswith("secateur.studio") for name in modules)


def test_the_kernels_know_no_engine():
    modules = loaded("secateur.kernels")
    assert not any(name.startswith("secateur.engine") for name in modules)


def test_importing_the_package_costs_nothing():
    run = subprocess.run(
        [sys.executable, "-c", "import secateur, sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True, cwd="/",
    )  # fmt: skip
    assert roots(run.stdout.split()).isdisjoint((*HEAVY, *WINDOW, "numpy", "yaml"))
