"""Kernel-pattern convolutions as group-wise products, against the dense convolution.

Four ways to lay 4-of-9 patterns: one of eight for each kernel (the usual choice), the same with
three quarters of the kernels removed, one for each filter, and one for each channel. Prints the
work and the time, both against dense; peers take turns in one run, least of several.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import geometric_mean
from time import perf_counter

import torch
from torch import Tensor, nn

from secateur.kernels.modules.kernel_pattern import PatternConv2d
from secateur.kernels.selection.kernel_patterns import choose, learn

LAYERS = ((64, 64, 56), (128, 128, 28), (256, 256, 14), (512, 512, 7))
ENTRIES, LIBRARY = 4, 8


def layouts(weight: Tensor) -> dict[str, Tensor]:
    """The masks [out, channels, 3, 3] by the way they are laid."""
    squares = weight.flatten(2).square()
    library = learn(squares.flatten(0, 1), ENTRIES, LIBRARY)
    by_kernel = choose(squares.flatten(0, 1), library).view_as(weight)
    energy = squares.sum(dim=2)
    strong = energy >= energy.flatten().kthvalue(energy.numel() * 3 // 4).values
    by_filter = choose(squares.sum(dim=1), library).view(-1, 1, 3, 3)
    by_channel = choose(squares.sum(dim=0), library).view(1, -1, 3, 3)
    return {
        "each kernel": by_kernel,
        "each kernel, 1/4 of them": by_kernel & strong[:, :, None, None],
        "each filter": by_filter.expand_as(weight),
        "each channel": by_channel.expand_as(weight),
    }


def least(candidates: list[Callable[[], Tensor]], repeats: int) -> list[float]:
    """The least time of each, in ms, all taking turns."""
    best = [float("inf")] * len(candidates)
    for _ in range(repeats):
        for i, run in enumerate(candidates):
            start = perf_counter()
            run()
            best[i] = min(best[i], (perf_counter() - start) * 1e3)
    return best


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    lines = [
        "| layer | pattern of | work | dense ms | ms | times as fast |",
        "|---|---|--:|--:|--:|--:|",
    ]
    ratios: dict[str, list[float]] = {}
    for out, channels, size in LAYERS:
        dense = nn.Conv2d(channels, out, 3, padding=1)
        x = torch.randn(1, channels, size, size)
        last = x.to(memory_format=torch.channels_last)
        for name, mask in layouts(dense.weight).items():
            ours = PatternConv2d.from_dense(dense, mask.flatten(1))
            runs = [partial(dense, x), partial(dense, last), partial(ours, x), partial(ours, last)]
            times = least(runs, args.repeats)
            best, least_ours = min(times[:2]), min(times[2:])
            ratios.setdefault(name, []).append(best / least_ours)
            lines.append(
                f"| {out}x{channels}x3x3 at {size} | {name} | {ours.work:.2f} | {best:.2f} "
                f"| {least_ours:.2f} | {best / least_ours:.2f} |"
            )
    lines += [
        f"| geometric mean, worst | {name} | | | | {geometric_mean(found):.2f}, {min(found):.2f} |"
        for name, found in ratios.items()
    ]
    text = "\n".join(lines)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
