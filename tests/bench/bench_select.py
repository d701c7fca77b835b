"""Choosing what to prune: one threshold over VGG-16's 138M weights, and N:M masks.

Each way of cutting runs in a process of its own, so that its peak of memory is its own: resident
bytes beyond the process with the model loaded, and in all as a multiple of the weights. Times are
the least of ten, of torch's that of one; processor seconds are those of all threads, which other
processes disturb less. Then N:M masks against copying the weight: one read and
one write.

Run (on Linux): python tests/bench/bench_select.py [--out RESULTS.md]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils import prune as torch_prune

from secateur.engine.gemm import Gemm
from secateur.engine.machine import describe
from secateur.engine.models import open_model
from secateur.engine.models.model import Model
from secateur.engine.patterns import PATTERNS
from secateur.engine.plan import Plan
from secateur.engine.runs.pruner import Pruner
from secateur.kernels.selection.select import keep_n_of_m
from secateur.kernels.selection.threshold import Part, lowest_counts

SPARSITY = 0.8
TIMES = 10
WAYS = (
    "secateur, plan to masks",
    "secateur, threshold alone",
    "torch prune",
    "torch topk",
    "torch topk, unsorted",
    "torch kthvalue",
    "numpy partition",
)


def product(model: Model) -> None:
    """As `secateur prune` does it: allocation, then a bit-packed mask of each layer."""
    rule = {"layers": "*", "pattern": "element", "sparsity": SPARSITY}
    plan = Plan.from_json({"rules": [rule], "allocation": "global"})
    rules = {layer.path: plan.rules[0] for layer in model.info.prunable}
    pruner = Pruner(model, plan, rules, model.matrix)
    shares = pruner.sparsities()
    masks = {path: pruner.prune(path, share)[0] for path, share in shares.items()}
    check(sum(mask.kept for mask in masks.values()), model)


def threshold(model: Model) -> None:
    """How many weights of each layer go, without the masks."""
    parts = [Part.of(model.weight(layer.path)) for layer in model.info.prunable]
    parts = [Part(part.count, partial(size, part), part.count) for part in parts]
    counts = lowest_counts(parts, SPARSITY * sum(part.count for part in parts))
    check(sum(part.count for part in parts) - sum(counts), model)


def size(part: Part, at: slice | torch.Tensor) -> torch.Tensor:
    return part.scores(at).abs()


def peer(model: Model) -> None:
    module = model.runnable()
    layers = [(module.get_submodule(layer.path), "weight") for layer in model.info.prunable]
    torch_prune.global_unstructured(layers, torch_prune.L1Unstructured, amount=SPARSITY)
    for layer, name in layers:
        del layer._parameters[f"{name}_orig"], layer._buffers[f"{name}_mask"]


def together(model: Model, choose: Callable[[torch.Tensor, int], object]) -> None:
    scores = torch.cat([model.weight(layer.path).flatten() for layer in model.info.prunable]).abs()
    choose(scores, round(SPARSITY * len(scores)))


def check(kept: int, model: Model) -> None:
    total = sum(model.weight(layer.path).numel() for layer in model.info.prunable)
    assert abs(kept - (1 - SPARSITY) * total) <= 1, kept


def way(name: str) -> Callable[[Model], None]:
    """What a way does to a model."""
    choices: dict[str, Callable[[torch.Tensor, int], object]] = {
        "torch topk": lambda s, k: torch.topk(s, k, largest=False),
        "torch topk, unsorted": lambda s, k: torch.topk(s, k, largest=False, sorted=False),
        "torch kthvalue": lambda s, k: s <= torch.kthvalue(s, k).values,
        "numpy partition": lambda s, k: s.numpy() <= np.partition(s.numpy(), k - 1)[k - 1],
    }
    own = {WAYS[0]: product, WAYS[1]: threshold, WAYS[2]: peer}
    return own[name] if name in own else partial(together, choose=choices[name])


def child(name: str) -> None:
    """Run one way; prints seconds, and the peak beyond the loaded model in bytes."""
    torch.set_num_threads(2)
    run, seconds, processor = way(name), [], []
    model = open_model("torchvision:vgg16")
    # Opening a model takes more for a moment; 5 makes the kernel forget that peak.
    Path("/proc/self/clear_refs").write_text("5")
    before, extra = memory("VmRSS"), 0
    # torch's ways are too slow to be repeated.
    for _ in range(1 if name.startswith("torch") else TIMES):
        begin, used = time.perf_counter(), time.process_time()
        run(model)
        seconds.append(time.perf_counter() - begin)
        processor.append(time.process_time() - used)
        extra = extra or memory("VmHWM") - before
    found = {"seconds": min(seconds), "processor": min(processor), "extra": extra}
    print(json.dumps(found | {"weights": model.info.bytes}))


def memory(field: str) -> int:
    """Bytes that Linux says this process has (VmRSS) or had at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def cuts() -> list[str]:
    found = {}
    for name in WAYS:
        command = [sys.executable, __file__, "--child", name]
        found[name] = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
    ours = found[WAYS[0]]
    lines = [
        f"One threshold over VGG-16 ({found[WAYS[0]]['weights'] / 4e6:.0f}M weights) at "
        f"{SPARSITY:.0%}, 2 threads",
        "",
        "| way | seconds | times ours | processor seconds | times ours | MB beyond the weights | "
        "all, in weights |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        total = 1 + one["extra"] / one["weights"]
        lines.append(
            f"| {name} | {one['seconds']:.2f} | {one['seconds'] / ours['seconds']:.1f} | "
            f"{one['processor']:.2f} | {one['processor'] / ours['processor']:.1f} | "
            f"{one['extra'] / 1e6:.0f} | {total:.2f} |"
        )
    return lines


def masks() -> list[str]:
    torch.set_num_threads(2)
    lines = [
        "N:M masks of 4096 x 4096 float32, 2 threads",
        "",
        "| mask | ms | copies | clones |",
        "|---|---|---|---|",
    ]
    weight = torch.rand(4096, 4096, generator=torch.Generator().manual_seed(0))
    target = torch.empty_like(weight)
    tasks: dict[str, Callable[[], object]] = {
        "copy into memory in use": lambda: target.copy_(weight),
        "clone": weight.clone,
    }
    for n, m in ((1, 2), (2, 4), (4, 8), (4, 16), (8, 32)):
        tasks[f"nm:{n}:{m}"] = partial(keep_n_of_m, weight, n, m)
    taps = weight[:, :4068].contiguous()  # 113 runs of four channels at nine taps
    tasks["nm:2:4 along channels, 3x3"] = partial(keep_n_of_m, taps, 2, 4, 9)
    gemm = Gemm((4096, 455, 3, 3), (3, 3))
    scores = weight[:, : gemm.shape[1]].contiguous()
    for word in ("block:4x4", "group", "kernel:4"):
        pattern = PATTERNS.parse(word)
        tasks[f"{word} at 50%"] = partial(pattern.mask, scores, 0.5, gemm)
    times = {name: least(task) for name, task in tasks.items()}
    copy, clone = times["copy into memory in use"], times["clone"]
    for name, ms in times.items():
        lines.append(f"| {name} | {ms:.1f} | {ms / copy:.1f} | {ms / clone:.1f} |")
    return lines


def least(task: Callable[[], object]) -> float:
    """Milliseconds, the least of several."""
    found = []
    for _ in range(7):
        begin = time.perf_counter()
        task()
        found.append((time.perf_counter() - begin) * 1e3)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--child")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.child:
        child(given.child)
        return
    machine = describe()
    head = f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}"
    text = "\n".join([head, "", *masks(), "", *cuts()])
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
