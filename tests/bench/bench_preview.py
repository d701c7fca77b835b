"""How long a slider's mask preview takes on a layer of 4096 x 4096 float32.

First in the engine alone, then in the real window with the engine as its own process: from the
changed plan to the repainted picture, with every panel bound to the session.

Run: python tests/bench/bench_preview.py
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo, ModelInfo
from secateur.engine.models.model import Model
from secateur.engine.views.views import Views

SIDE = 4096
SIZE = (480, 700)
SLIDER = [0.30 + 0.017 * step for step in range(15)]


def model() -> Model:
    torch.manual_seed(0)
    weight = torch.randn(SIDE, SIDE) * 0.02
    shape = tuple(weight.shape)
    layer = LayerInfo("fc", "Linear", "fc.weight", shape, weight.numel(), "float32", Gemm(shape))
    info = ModelInfo("bench", "bench", (layer,), weight.numel(), weight.nbytes)
    return Model("bench", info, {"fc.weight": weight})


def report(pattern: str, times: list[float]) -> None:
    median, worst = statistics.median(times[1:]), max(times[1:])
    print(f"{pattern:10} {times[0]:8.1f} {median:13.1f} {worst:8.1f}")


def rule(pattern: str, sparsity: float) -> dict[str, object]:
    made: dict[str, object] = {"layers": "fc", "pattern": pattern}
    return made if pattern.startswith("nm") else {**made, "sparsity": sparsity}


def in_the_engine(opened: Model) -> None:
    for pattern in ("element", "group", "block:4x4", "block:5x7", "filter", "nm:2:4"):
        views = Views(opened)
        whole = (0, 0, SIDE, SIDE)
        views.tile("fc", "magnitude", whole, SIZE)  # the layer is on the screen already
        times = []
        for sparsity in SLIDER:
            begin = time.perf_counter()
            views.tile("fc", "magnitude", whole, SIZE, rule(pattern, sparsity))
            times.append((time.perf_counter() - begin) * 1e3)
        report(pattern, times)


def in_the_window(opened: Model, folder: Path) -> None:
    from PySide6.QtCore import QSettings
    from PySide6.QtWidgets import QApplication
    from safetensors.torch import save_file

    from secateur.engine.plan import Plan
    from secateur.studio.look import theme
    from secateur.studio.state.client import EngineClient
    from secateur.studio.state.session import Session
    from secateur.studio.window import MainWindow

    save_file(dict(opened.state), folder / "large.safetensors")
    app = QApplication([])
    theme.apply(app, "dark")
    client = EngineClient()
    client.start()
    session = Session(client, folder / "home")
    window = MainWindow(session, QSettings(str(folder / "s.ini"), QSettings.Format.IniFormat))
    window.show()

    def until(done: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not done():
            app.processEvents()
            time.sleep(0.0005)
            if time.monotonic() > end:
                raise TimeoutError(session.busy or session.engine_text)

    until(lambda: session.engine_state == "ready")
    session.open(str(folder / "large.safetensors"))
    until(lambda: session.info is not None and not session.busy)
    matrix = window.canvas.matrix
    session.select(["fc"])
    until(lambda: matrix.tile() is not None)

    def shows(sparsity: float) -> bool:
        asked = matrix.tile().asked["rule"] or {}
        return asked.get("sparsity") == sparsity

    for pattern in ("element", "group", "block:4x4", "filter"):
        written = Plan.from_json({"rules": [rule(pattern, 0.2)]}).rules[0]
        begin = time.perf_counter()
        session.set_rule([session.current], written)
        until(lambda: shows(0.2))
        matrix.repaint()
        times = [(time.perf_counter() - begin) * 1e3]
        for sparsity in SLIDER:
            rest = time.monotonic() + 0.15  # the other panels have asked too; let them be answered
            until(lambda rest=rest: time.monotonic() > rest)
            begin = time.perf_counter()
            session.set_sparsity_live([session.current], sparsity)
            until(lambda wanted=sparsity: shows(wanted))
            matrix.repaint()
            times.append((time.perf_counter() - begin) * 1e3)
        report(pattern, times)
    window.close()
    session.close()


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    opened = model()
    head = f"{'pattern':10} {'first':>8} {'then, median':>13} {'worst':>8}"
    print(f"{SIDE} x {SIDE} float32, {SIZE[1]} x {SIZE[0]} pixels, {os.cpu_count()} cores; ms")
    print(f"In the engine\n{head}")
    in_the_engine(opened)
    print(f"In the window, from the changed plan to the repainted picture\n{head}")
    with tempfile.TemporaryDirectory() as folder:
        in_the_window(opened, Path(folder))


if __name__ == "__main__":
    main()
