"""Permutation search for 2:4: what it keeps and how long it takes, against the usual search.

The reference takes all pairs of runs, tries all 35 ways to put their eight channels into two runs,
makes the best changes that do not touch each other, and repeats until nothing is gained: the
exhaustive search over pairs of stripes of Pool & Yu (2021). Efficacy is the share of what 2:4 loses
against the same number of free weights that the order wins back.

Apex publishes 61 s for this search on 64 x 128 on a CPU, and 0.013 s on a V100.

Run: python tests/bench/bench_permutation.py [--out RESULTS.md]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from secateur.engine.machine import describe
from secateur.engine.models import open_model
from secateur.engine.patterns.nm import lanes
from secateur.kernels.selection.permutation import kept, search

PUBLISHED = 61.0
LARGEST_FOR_REFERENCE = 128 * 1200


def reference(scores: torch.Tensor) -> torch.Tensor:
    """The exhaustive search over pairs of runs."""
    first = [c for c in combinations(range(8), 4) if c[0] == 0]
    ways = np.array([[*c, *(i for i in range(8) if i not in c)] for c in first])
    values, order = scores.numpy(), np.arange(scores.shape[1])
    runs = len(order) // 4
    gains: dict[tuple[int, int], tuple[float, int]] = {}
    changed = set(range(runs))
    while changed:
        for pair in combinations(range(runs), 2):
            if changed.intersection(pair):
                eight = np.concatenate([order[4 * run : 4 * run + 4] for run in pair])
                tried = values[:, eight][:, ways].reshape(len(values), len(ways), 2, 4)
                keeps = np.sort(tried)[..., 2:].sum((0, 2, 3))
                best = int(keeps.argmax())
                gains[pair] = float(keeps[best] - keeps[0]), best
        changed = set()
        for pair, (gain, best) in sorted(gains.items(), key=lambda item: -item[1][0]):
            if gain > 1e-4 and not changed.intersection(pair):
                eight = np.concatenate([order[4 * run : 4 * run + 4] for run in pair])[ways[best]]
                for run, four in zip(pair, (eight[:4], eight[4:]), strict=True):
                    order[4 * run : 4 * run + 4] = four
                changed.update(pair)
    return torch.from_numpy(order)


def problems() -> dict[str, torch.Tensor]:
    """Scores [rows, channels] by name."""
    generator = torch.Generator().manual_seed(0)
    found = {"64 x 128, random": torch.randn(64, 128, generator=generator).abs()}
    for name in ("digits-resnet", "digits-vit"):
        model = open_model(f"sample:{name}")
        for layer in model.info.prunable:
            assert layer.gemm is not None
            if layer.gemm.channels >= 32 and layer.path.endswith(("conv2", "linear2", "fc")):
                size = lanes(model.matrix(layer.path).abs(), layer.gemm)
                found[f"{name} {layer.path}"] = size
    found["resnet18 64 channels 3x3"] = torch.randn(576, 64, generator=generator).abs()
    found["resnet18 512 channels 3x3"] = torch.randn(4608, 512, generator=generator).abs()
    found["768 x 768"] = torch.randn(768, 768, generator=generator).abs()
    return found


def rows() -> list[str]:
    lines = [
        "| scores | rows x channels | kept without | kept with | efficacy | seconds | "
        "reference: kept | efficacy | seconds | its time / ours |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, scores in problems().items():
        whole, without = float(scores.sum(dtype=torch.float64)), kept(scores, 2, 4)
        free = scores.flatten().double().sort().values[scores.numel() // 2 :].sum()
        found = {}
        for way in (search, reference):
            if way is reference and scores.numel() > LARGEST_FOR_REFERENCE:
                continue
            begin = time.perf_counter()
            order = way(scores, 2, 4) if way is search else way(scores)
            seconds = time.perf_counter() - begin
            keeps = kept(scores, 2, 4, order)
            found[way] = keeps, (keeps - without) / (float(free) - without), seconds
        line = f"| {name} | {scores.shape[0]} x {scores.shape[1]} | {without / whole:.2%} |"
        for keeps, efficacy, seconds in found.values():
            line += f" {keeps / whole:.2%} | {efficacy:.1%} | {seconds:.2f} |"
        if reference in found:
            line += f" {found[reference][2] / found[search][2]:.1f} |"
        lines.append(line)
        if len(lines) == 3:
            ours = found[search][2]
            print(f"64 x 128: {PUBLISHED / ours:.0f} times the published speed of Apex's CPU path")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(2)
    machine = describe()
    head = f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}"
    text = "\n".join([head, "", *rows()])
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
