"""The dispatcher's pick on the CPU against every form that it had to choose from, timed anew.

Linear layers and convolutions in fp32, by pattern, sparsity and batch. Dense is in the better of
both memory formats, as are the other forms of convolutions. Rows whose times a busy machine has
disturbed are marked, and are not part of the summary.

Run: python tests/bench/bench_dispatcher.py [--seconds S] [--out RESULTS.md]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
from functools import partial
from itertools import product
from pathlib import Path
from statistics import geometric_mean

import torch

from secateur.engine.machine import describe
from secateur.kernels.dispatch.memory import Memory
from secateur.kernels.dispatch.noise import Watch
from secateur.tests.bench.gpu import picking
from secateur.tests.bench.gpu.report import finished, picks
from secateur.tests.bench.gpu.setting import Setting

LINEAR_BATCHES, CONV_BATCHES = (1, 16, 256), (1, 8)
OF_BEST, OF_DENSE = 0.95, 0.97


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1.0, help="for one row")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(2)
    setting = Setting(torch.device("cpu"))
    linears = [
        (f"{out}x{ins}, batch {batch}, {name}", partial(picking.linear, out, ins, batch), mask)
        for (out, ins), batch in product(picking.LINEARS, LINEAR_BATCHES)
        for name, mask in picking.PATTERNS.items()
    ]
    convolutions = [
        (f"{shape}, batch {batch}, {name}", partial(picking.conv, shape, batch), mask)
        for shape, batch in product(picking.CONVOLUTIONS, CONV_BATCHES)
        for name, mask in picking.CONV_PATTERNS.items()
    ]
    memory, rows = Memory(None), []
    for name, make, mask in [*linears, *convolutions]:
        torch.manual_seed(0)
        watch = Watch(setting.device, memory)
        row = picking.pick(make, mask, torch.float32, setting, given.seconds)
        busy = ", busy" if watch.disturbed() else ""
        rows.append({**row, "name": name + busy, "busy": bool(busy)})
        print(rows[-1]["name"], row["picked"], flush=True)
    rows = finished(rows)
    quiet = [row for row in rows if not row["busy"]]
    machine = describe()
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}, 2 threads, fp32",
        "",
        f"Of {len(rows)} rows {len(rows) - len(quiet)} were disturbed. In the others the pick is",
        "",
        *(
            f"- {words}: geometric mean {geometric_mean(found):.2f}, worst {min(found):.2f}, "
            f"{sum(each < limit for each in found)} of {len(found)} below {limit}"
            for words, limit, found in (
                ("as fast as the best form", OF_BEST, [row["ratio"] for row in quiet]),
                ("as fast as dense", OF_DENSE, [row["of_dense"] for row in quiet]),
            )
        ),
        "",
        *picks(rows),
    ]
    text = "\n".join(lines)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
