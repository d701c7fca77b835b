"""The kernels on a GPU: first whether they are right, then how fast against their peers.

Every row of the table of targets, at real sizes: the peers take turns with ours in one run, in the
same precision, by the device's own events. Ratios are of medians; the share of the limit is the
least time, by a large copy's bytes and large products' operations of the same run, over ours. Where
a call is over before the next one could be started, all candidates are replayed as graphs. Weights
that a small batch reads once come from memory, not from the cache; other inputs may be in it.

A row that fails, hangs or kills its process is a row with the reason; the others are measured.
Needs no window and no display. `make bench-gpu` runs it.

Run: python tests/bench/bench_gpu.py [--only REGEX] [--seconds N] [--out results/gpu_NAME.md]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from secateur.engine.files import replacing
from secateur.tests.bench.gpu.report import finished, markdown
from secateur.tests.bench.gpu.setting import Json, Setting
from secateur.tests.bench.gpu.supervisor import supervise
from secateur.tests.bench.gpu.worker import Share, work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose 'topic/name' this expression finds")
    parser.add_argument("--seconds", type=float, default=420, help="for everything")
    parser.add_argument("--out", type=Path, help="a .md; the numbers go beside it as .json")
    parser.add_argument("--device", default="cuda", help="cpu tries the rows without a GPU")
    parser.add_argument("--quick", action="store_true", help="tiny shapes; measures nothing")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--without", action="append", default=[], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        parser.exit(1, "There is no GPU that torch can use here.\n")
    if given.worker:
        setting = Setting(torch.device(given.device), given.quick)
        share = Share(given.only, given.skip, given.without, given.seconds)
        sys.exit(0 if work(setting, share) else 3)
    begin = time.monotonic()
    own = ("--worker", "--device", given.device, "--only", given.only)
    command = (sys.executable, __file__, *own, *(("--quick",) if given.quick else ()))
    rows = finished(supervise(command, given.seconds, _note))
    text = markdown(rows, time.monotonic() - begin)
    print(text)
    if given.out:
        with replacing(given.out) as path:
            path.write_text(text, encoding="utf-8")
        with replacing(given.out.with_suffix(".json")) as path:
            path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _note(row: Json) -> None:
    words = row.get("reason") or "done"
    print(f"{row['topic']}: {row['name']}: {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
