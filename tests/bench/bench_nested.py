"""Switching a running model between nested levels, against loading the level's file anew.

Levels are 50, 75 and 90 %, of single weights and of filters. Loading is reading the level from the
nested file into a new module; reading is reading the level's own dense tensors, which are in the
system's cache, into the module that runs. Times are the least of several tries. Single weights lie
in almost every cache line, so that a switch costs less by far where rows differ.

Run: python tests/bench/bench_nested.py [MODEL …] [--tries N] [--out RESULTS.md]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import time
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file

import secateur
from secateur.engine.export import export
from secateur.engine.machine import describe
from secateur.engine.models import open_model
from secateur.engine.plan import Plan
from secateur.engine.runs.runner import Run

LEVELS = [0.5, 0.75, 0.9]
PATTERNS = ["element", "filter"]
MODELS = ["sample:digits-resnet", "torchvision:resnet18"]


def least(tries: int, work: Callable[[], Any], before: Callable[[], Any] = lambda: None) -> float:
    """Seconds of the fastest try; `before` runs ahead of each, outside of the time."""
    seconds = []
    for _ in range(tries):
        before()
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def rows(address: str, pattern: str, tries: int, folder: Path) -> list[str]:
    rule = {"layers": "*", "pattern": pattern, "sparsity": 0.5}
    schedule = {"kind": "nested", "levels": LEVELS}
    run = Run(open_model(address), Plan.from_json({"rules": [rule], "schedule": schedule}))
    for _ in run.events():
        pass
    outcome = run.outcome
    assert outcome is not None
    assert outcome.levels is not None
    path = folder / "nested.safetensors"
    shared = export(outcome.model, outcome.masks, "nested", path, outcome.levels).shared
    assert shared is not None
    print(
        f"{address}, {pattern}: {shared.total / 1e6:.2f} MB for all levels, "
        f"{sum(shared.separate) / 1e6:.2f} MB in files of their own, indices "
        f"{(shared.positions + shared.index) / 1e6:.2f} MB, break-even {shared.break_even:.1%}"
    )
    dense = {}
    for level, masks in zip(LEVELS, outcome.levels.masks, strict=True):
        dense[level] = folder / f"{level}.safetensors"
        export(outcome.model, masks, "safetensors", dense[level])
    nested = secateur.load_nested(path)
    lines = []
    steps = [*pairwise(LEVELS), *pairwise(LEVELS[::-1]), (LEVELS[0], LEVELS[-1])]
    for start, end in [*steps, (LEVELS[-1], LEVELS[0])]:
        nested.switch(start)
        written = nested.switch(end)
        switching = least(
            tries, lambda end=end: nested.switch(end), lambda start=start: nested.switch(start)
        )
        loading = least(min(tries, 3), lambda end=end: secateur.load(path, level=end))
        reading = least(
            min(tries, 3),
            lambda end=end: nested.module.load_state_dict(load_file(dense[end])),
        )
        weights = sum(tensor.nbytes for tensor in outcome.model.state.values())
        lines.append(
            f"| {address} | {pattern} | {start:g} → {end:g} | {written / 1e6:.3f} | "
            f"{weights / 1e6:.3f} | "
            f"{1e3 * switching:.2f} | {1e3 * reading:.2f} | {1e3 * loading:.2f} | "
            f"{reading / switching:.1f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--tries", type=int, default=7)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(2)
    machine = describe()
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}",
        "",
        "| model | pattern | levels | MB written | MB of weights | switch ms | "
        "read dense file ms | "
        "load from nested file ms | read / switch |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for address, pattern in product(given.models, PATTERNS):
        with TemporaryDirectory() as folder:
            lines += rows(address, pattern, given.tries, Path(folder))
    text = "\n".join(lines)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
