"""How long a slider's mask preview takes in the engine, on a layer of 4096 x 4096 float32.

Run: python tests/bench/bench_preview.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import statistics
import time

import torch
from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo, ModelInfo
from secateur.engine.models.model import Model
from secateur.engine.views import Views

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


def main() -> None:
    opened = model()
    print(f"{SIDE} x {SIDE} float32, {SIZE[1]} x {SIZE[0]} pixels, {os.cpu_count()} cores; ms")
    print(f"{'pattern':10} {'first':>8} {'then, median':>13} {'worst':>8}")
    for pattern in ("element", "group", "block:4x4", "block:5x7", "filter", "nm:2:4"):
        views = Views(opened)
        whole = (0, 0, SIDE, SIDE)
        views.tile("fc", "magnitude", whole, SIZE)  # the layer is on the screen already
        times = []
        for sparsity in SLIDER:
            rule = {"layers": "fc", "pattern": pattern, "sparsity": sparsity}
            if pattern.startswith("nm"):
                del rule["sparsity"]
            begin = time.perf_counter()
            views.tile("fc", "magnitude", whole, SIZE, rule)
            times.append((time.perf_counter() - begin) * 1e3)
        median, worst = statistics.median(times[1:]), max(times[1:])
        print(f"{pattern:10} {times[0]:8.1f} {median:13.1f} {worst:8.1f}")


if __name__ == "__main__":
    main()
