"""The layer table of a 4 GB safetensors file against reading its header, and the memory it takes.

Run from anywhere: ``python tests/bench/bench_layer_table.py``. The file is sparse on disk: it takes
no room, and nothing but its header is ever read.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LAYERS, WIDTH = 64, 4096
ROUNDS = 15

INSIDE = """
import json, statistics, sys, time
import psutil
from pathlib import Path
from safetensors import safe_open
from secateur.engine.models import inspect_model

path, rounds = sys.argv[1], int(sys.argv[2])
inspect_model(path)
assert 'torch' not in sys.modules
me = psutil.Process()
before = me.memory_info().rss
header, table = [], []
for _ in range(rounds):
    start = time.perf_counter()
    with safe_open(path, "np") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}
    header.append(time.perf_counter() - start)
    start = time.perf_counter()
    info = inspect_model(path)
    table.append(time.perf_counter() - start)
assert len(info.prunable) == len(shapes)
print(json.dumps({
    "header": statistics.median(header), "table": statistics.median(table),
    "grown": me.memory_info().rss - before,
}))
"""


def write(path: Path) -> None:
    """A safetensors file of 4.3 GB whose tensors are holes."""
    size = WIDTH * WIDTH * 4
    table = {
        f"layers.{i}.weight": {
            "dtype": "F32",
            "shape": [WIDTH, WIDTH],
            "data_offsets": [i * size, (i + 1) * size],
        }
        for i in range(LAYERS)
    }
    header = json.dumps(table).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        os.truncate(file.fileno(), 8 + len(header) + LAYERS * size)


def main() -> None:
    """Measure in a process of its own and print the ratio."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.safetensors"
        write(path)
        command = [sys.executable, "-c", INSIDE, str(path), str(ROUNDS)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        cold = []
        for _ in range(3):
            start = time.perf_counter()
            inspect = [sys.executable, "-m", "secateur.engine", "inspect", str(path), "--json"]
            subprocess.run(inspect, capture_output=True, check=True)
            cold.append(time.perf_counter() - start)
    header, table = 1000 * found["header"], 1000 * found["table"]
    print(f"{LAYERS * WIDTH * WIDTH * 4 / 1e9:.1f} GB, {LAYERS} matrices")
    print(f"header, safetensors library   {header:8.2f} ms")
    print(f"layer table                   {table:8.2f} ms   {table / header:.2f}x")
    print(f"memory grown by the table     {found['grown'] / 1e6:8.1f} MB")
    print(f"secateur inspect, whole       {statistics.median(cold):8.2f} s")


if __name__ == "__main__":
    main()
