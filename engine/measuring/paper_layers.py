"""S1's single layers (figures 11 to 14): group-wise over sparsity, and what its steps take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.dispatch.candidates import GATHER
from ...kernels.dispatch.memory import Memory
from ...kernels.dispatch.noise import Watch
from ...kernels.dispatch.race import DENSE, Form, race
from ..dependencies import first_line
from ..errors import is_out_of_memory
from .off_the_shelf import IM2COL, SELECT, THINNED, GemmLayer, ThinnedConv
from .paper_cells import figures, fused
from .stages import time_steps

Json = dict[str, Any]
SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class SingleLayer:
    """A layer of S1's figures, the size of one input, and the batch; S1's is 64."""

    name: str
    build: Callable[[], nn.Conv2d | nn.Linear]
    sample: tuple[int, ...]
    cpu_batch: int = 64


LAYERS = (
    # On the CPU a pass of 64 would take many seconds.
    SingleLayer(
        "convolution 512→512, 3×3, 28×28", partial(nn.Conv2d, 512, 512, 3, padding=1),
        (512, 28, 28), 4,
    ),
    SingleLayer("linear 4096→4096", partial(nn.Linear, 4096, 4096), (4096,)),
)  # fmt: skip


@torch.inference_mode()
def layer_cells(
    device: torch.device, memory: Memory, seconds: float, check: Callable[[], object]
) -> Iterator[Json]:
    """One cell for each of `LAYERS`, sparsity and form; rows with ``error`` where one did not run.

    Forms: ``select`` (the paper's way), ``thinned`` (convolution only) and ``gather``
    (ours), each with its ``steps``; columns are left out at random.
    """
    for single in LAYERS:
        layer = single.build().to(device).requires_grad_(False)
        batch = 64 if device.type == "cuda" else single.cpu_batch
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(batch, *single.sample, generator=generator).to(device)
        order = torch.randperm(layer.weight[0].numel(), generator=generator).to(device)
        for sparsity in SPARSITIES:
            check()
            row = {
                "model": "single layer",
                "layer": single.name,
                "pattern": "group",
                "kept": 1 - round(sparsity * len(order)) / len(order),
                "batch": len(x),
                "dtype": "float32",
                "device": device.type,
            }
            mask = (order >= round(sparsity * len(order))).expand(len(layer.weight), -1)
            try:
                yield from _cells(row, layer, mask, x, memory, seconds, check)
            except (RuntimeError, MemoryError) as error:
                why = "does not fit in memory" if is_out_of_memory(error) else first_line(error)
                yield {**row, "error": why}


def _cells(
    row: Json,
    layer: nn.Module,
    mask: Tensor,
    x: Tensor,
    memory: Memory,
    seconds: float,
    check: Callable[[], object],
) -> Iterator[Json]:
    raced = {DENSE: layer, SELECT: GemmLayer(layer, mask), GATHER: fused(layer, mask)}
    names = {SELECT: "select", GATHER: "gather"}
    if isinstance(layer, nn.Conv2d):
        raced |= {IM2COL: GemmLayer(layer), THINNED: ThinnedConv(layer, mask)}
        names[THINNED] = "thinned"
    forms = [Form(path, module, (x,), {}) for path, module in raced.items()]
    watch = Watch(x.device, memory)
    times = race(forms, seconds=seconds, device=x.device.type, check=check)
    disturbed = watch.disturbed()
    for path, form in names.items():
        watch = Watch(x.device, memory)
        parts = time_steps(raced[path], x, seconds=seconds / 4, check=check)
        steps = {"path": path, "parts": parts, "disturbed": watch.disturbed()}
        yield {**row, "form": form, **figures(times, path, disturbed), "steps": [steps]}
