"""The best pattern of a library for every convolution kernel, by one kernel."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..cuda.launch import launch, launchable
from ..cuda.source import Source, scalar

MOST_TAPS = 64

SOURCE = Source(
    Path(__file__).with_suffix(".cu"),
    ("kernel_choice",),
    tuple({"T": t} for t in ("float", "half", "bfloat16")),
)

_THREADS = 128


def serves(kernels: Tensor) -> bool:
    """Whether the kernel can choose for these scores, where they are."""
    return kernels.shape[1] <= MOST_TAPS and launchable(kernels)


def choose_cuda(kernels: Tensor, library: Tensor) -> tuple[Tensor, Tensor]:
    """The mask of `kernel_patterns.choose` and the number of each kernel's pattern, int32 [n]."""
    kernels = kernels.detach()
    kernels = (kernels.float() if kernels.dtype == torch.float64 else kernels).contiguous()
    count, taps = kernels.shape
    places = torch.arange(taps, device=kernels.device)
    words = (library.to(kernels.device).long() << places).sum(1)
    mask = torch.empty(count, taps, dtype=torch.bool, device=kernels.device)
    best = torch.empty(count, dtype=torch.int32, device=kernels.device)
    args = (kernels, words, count, taps, len(library), mask, best)
    launch(
        SOURCE,
        "kernel_choice",
        (-(-count // _THREADS),),
        (_THREADS,),
        args,
        variant={"T": scalar(kernels.dtype)},
        shared=4 * _THREADS * ((taps | 1) + 1),
    )
    return mask, best
