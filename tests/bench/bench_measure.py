"""Group-wise against dense convolutions: the 3x3 layers of ResNet-18 at 75 % of columns removed.

Run by hand: ``OMP_WAIT_POLICY=passive python tests/bench/bench_measure.py [BATCH]``. The dense time
is the better of both memory formats; all are timed in turn, in one run.
"""

from __future__ import annotations

import sys

import torch
from torch import nn

from secateur.engine.measuring.forms import with_mask
from secateur.kernels.dispatch.candidates import candidates
from secateur.kernels.dispatch.race import Form, race

LAYERS = ((64, 64, 56), (128, 128, 28), (256, 256, 14), (512, 512, 7))


def main(batch: int) -> None:
    for outputs, inputs, size in LAYERS:
        layer = nn.Conv2d(inputs, outputs, 3, padding=1)
        kept = torch.rand(layer.weight[0].shape, generator=torch.Generator().manual_seed(0)) < 0.25
        x = torch.randn(batch, inputs, size, size)
        forms = [Form("dense", layer, (x,), {})]
        pruned = with_mask(layer, kept.expand_as(layer.weight))
        forms += [Form(path, each, (x,), {}) for path, each in candidates(pruned).items()]
        best = {path: timing.median_ms for path, timing in race(forms, seconds=1.0).items()}
        ratios = ", ".join(f"{path} {best['dense'] / ms:.2f}x" for path, ms in best.items())
        print(f"{outputs}x{inputs}x3x3 at {size}x{size}, batch {batch}: {ratios}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
