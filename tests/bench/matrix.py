"""The model matrix: all torchvision classifiers and small transformers, all patterns, removal.

Each model is opened, its layers are counted against an independent count, every pattern prunes it
in one shot, the masked model runs, and half of its filters and of its heads are really removed. A
model that fails, hangs or takes too much memory is a row that says so. Prints the table and writes
it to results/matrix.md.

Run: python tests/bench/matrix.py [--only REGEX] [--quick] [--jobs N]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import multiprocessing
import re
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from secateur.tests.bench.examine import Row, defaults, examine
from secateur.tests.bench.small_transformers import SMALL, save

RESULT = Path(__file__).with_name("results") / "matrix.md"
GB = 1 << 30
# A process that has become this large is replaced before the next model.
FULL = 2 * GB


def main() -> None:
    options = _options()
    names = [n for n in [*networks(options.quick), *SMALL] if re.search(options.only, n)]
    with TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as threads:
        workers = [Worker(options, Path(folder)) for _ in range(options.jobs)]
        idle = list(workers)

        def work(name: str) -> Row:
            worker = idle.pop()
            row = worker.examine(name)
            idle.append(worker)
            print(" | ".join(cells(row)), flush=True)
            return row

        try:
            rows = list(threads.map(work, names))
        finally:  # also when somebody has had enough
            threads.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.stop()
    text = report(rows)
    print(f"\n{text}")
    if len(names) == len(networks(False)) + len(SMALL):
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only models whose name this matches")
    parser.add_argument("--quick", action="store_true", help="one network of each family")
    parser.add_argument("--jobs", type=int, default=1, help="models at a time")
    parser.add_argument("--seconds", type=float, default=600, help="at most, for one model")
    parser.add_argument("--memory", type=float, default=16, help="GB at most, for one model")
    return parser.parse_args()


def networks(quick: bool) -> list[str]:
    """torchvision's classifiers, or the smallest of each of its files."""
    from torchvision import models

    names = models.list_models(module=models)
    if not quick:
        return names
    family = {name: models.get_model_builder(name).__module__ for name in names}
    sizes = {n: models.get_model_weights(n).DEFAULT.meta["num_params"] for n in names}
    smallest = {family[n]: n for n in sorted(names, key=lambda n: -sizes[n])}
    return sorted(smallest.values())


class Worker:
    """A process that examines models one after the other and may be killed at any time."""

    def __init__(self, options: Any, folder: Path) -> None:
        self._options, self._folder = options, folder
        self._process: Any = None

    def examine(self, name: str) -> Row:
        """The model's row, also if the process hangs, dies or grows too large over it."""
        if self._process is None:
            self._start()
        begin, peak = time.monotonic(), 0
        problem = None
        try:
            self._pipe.send(name)
            watched = psutil.Process(self._process.pid)
            while problem is None and not self._pipe.poll(0.2):
                peak = max(peak, watched.memory_info().rss)
                if time.monotonic() - begin > self._options.seconds:
                    problem = f"not done after {self._options.seconds:g} s"
                elif peak > self._options.memory * GB:
                    problem = f"took more than {self._options.memory:g} GB"
            row = self._pipe.recv() if problem is None else Row(name, failures=[problem])
            grown = watched.memory_info().rss > FULL
        except (EOFError, OSError, psutil.NoSuchProcess):
            self._process.join(5)
            row = Row(name, failures=[f"its process ended with {self._process.exitcode}"])
            grown = True
        if problem or grown:
            self.stop()
        seconds = row.seconds | {"all": time.monotonic() - begin, "memory": peak / GB}
        return replace(row, seconds=seconds)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        arguments = (other, self._folder, max(1, (os.cpu_count() or 1) // self._options.jobs))
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        other.close()

    def stop(self) -> None:
        """End the process; the next model gets a new one."""
        if self._process is not None:
            self._pipe.close()  # enough for one that waits for a name
            self._process.join(2)
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(pipe: Any, folder: Path, threads: int) -> None:
    """Examine each model whose name comes through the pipe."""
    import torch
    import transformers

    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        small = name in SMALL
        address = str(save(name, folder)) if small else f"torchvision:{name}"
        pipe.send(examine(name, address, thorough=small))


def cells(row: Row) -> list[str]:
    """The columns of one row."""
    unit = sum(row.patterns.values())
    structured = "–" if row.smaller is None else f"{row.smaller:.1%}"
    if row.headless is not None:
        structured += f", heads {row.headless:.1%}"
    why = "; ".join(row.failures)
    if not why and not smaller(row):
        why = row.reason or "nothing went, and no reason is given"
    return [
        row.name,
        f"{row.params / 1e6:.3g} M",
        f"{row.found}/{row.expected}",
        f"{len(row.patterns)} on {unit}" if row.patterns else "–",
        row.forward or "–",
        structured,
        "–" if row.difference is None else f"{row.difference:.0e}",
        f"{row.seconds.get('open', 0):.1f}",
        f"{row.seconds['all']:.0f}",
        f"{row.seconds['memory']:.1f}",
        why.replace("|", "/")[:300],
    ]


HEAD = [
    "model", "parameters", "layers found/expected", "patterns on layers", "masked forward",
    "parameters left without half of the filters", "largest difference", "open, s", "all, s",
    "memory, GB", "what failed, or why nothing went",
]  # fmt: skip


def smaller(row: Row) -> bool:
    """Whether removing filters or heads made the model smaller, and to the same outputs."""
    return min(row.smaller or 1, row.headless or 1) < 1 and not row.failures


def report(rows: list[Row]) -> str:
    """The whole table with the machine above and the sums below, as Markdown."""
    import torchvision
    import transformers

    from secateur.engine.machine import describe

    machine = describe()
    versions = {"torch": machine["torch"], "torchvision": torchvision.__version__}
    versions["transformers"] = transformers.__version__
    lines = [
        "# The model matrix",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory'] / GB:.0f} GB; Python "
        f"{machine['python']}, " + ", ".join(f"{name} {v}" for name, v in versions.items()) + ".",
        "",
        f"The patterns are {', '.join(defaults())}, at their default settings and 50 %, by "
        "magnitude; a layer that a pattern does not fit is left out of its run. Weights are "
        "random. The largest difference is that of the smaller model to the masked one, relative "
        "to the largest output.",
        "",
        f"| {' | '.join(HEAD)} |",
        f"|{'---|' * len(HEAD)}",
        *(f"| {' | '.join(cells(row))} |" for row in rows),
        "",
    ]
    for title, part in (
        ("torchvision's classifiers", [row for row in rows if row.name not in SMALL]),
        ("transformers", [row for row in rows if row.name in SMALL]),
    ):
        if not part:
            continue
        whole = sum(not row.failures for row in part)
        less = [row.name for row in part if not smaller(row)]
        lines.append(
            f"- {title}: {whole} of {len(part)} without a failure, {len(part) - len(less)} get "
            f"structurally smaller{'; not: ' + ', '.join(less) if less else ''}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
