"""One cut through 100 million scores and the mask, against torch's ways to find it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from secateur.kernels.selection.radix_select import lowest_of_all
from secateur.tests.bench.gpu.contest import Contest, contest
from secateur.tests.bench.gpu.setting import Case, Setting

ENTRIES = 100_000_000
SPARSITY = 0.8
# The peers treat scores equal to the cut alike, ours chooses among them; in bf16 they are many.
_TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 2e-2}

CUTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "topk": lambda s, count: (
        s >= torch.topk(s, len(s) - count, largest=True, sorted=False).values.min()
    ),
    "kthvalue": lambda s, count: s > torch.kthvalue(s, count).values,
    "sort": lambda s, count: s > torch.sort(s).values[count - 1],
}
"""True at what stays, of scores 1-d and how many go."""


def cases(setting: Setting, topic: str) -> list[Case]:
    several = 8 if setting.quick else 100
    return [
        contest(topic, f"{words}, {name}", partial(_cut, parts, dtype, score))
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
        for words, parts, score in (
            ("one tensor of scores", 1, "given"),
            (f"|w| of {several} tensors", several, "magnitude"),
        )
    ]


def _cut(parts: int, dtype: torch.dtype, score: str, setting: Setting) -> Contest:
    total = 80_000 if setting.quick else ENTRIES
    tensors = [setting.randn(total // parts, dtype=dtype) for _ in range(parts)]
    count = round(SPARSITY * total)

    def peer(cut: Callable[[Tensor, int], Tensor]) -> list[Tensor]:
        flat = tensors[0] if parts == 1 else torch.cat(tensors)
        return list(cut(flat if score == "given" else flat.abs(), count).chunk(parts))

    return Contest(
        ours=[partial(lowest_of_all, tensors, count, score=score, keep=True)],
        peers={f"torch {name}": [partial(peer, cut)] for name, cut in CUTS.items()},
        wanted=partial(peer, CUTS["kthvalue"]),
        tolerance=_TOLERANCES[dtype],
        moved=(dtype.itemsize + 1) * total,
    )
