"""What the steps of each form of a layer take (S1, figures 12 to 14)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from ...kernels.dispatch.stopwatch import Answer, Stopwatch
from ...kernels.modules.layers import is_convolution
from ...kernels.modules.steps import Step, steps
from .contests import Contest
from .off_the_shelf import IM2COL, GemmLayer
from .stages import bound

Json = dict[str, Any]


def breakdown(
    contest: Contest, answer: Answer, stopwatch: Stopwatch, device: torch.device
) -> list[Json]:
    """``{"path", "parts": [{"name", "ms"}], "disturbed"}`` of every form, that which ran first.

    A dense convolution of the library's is one ``multiply``, so that it stands here once more as S1
    has it, as im2col and GEMM. Each step is timed by itself on the same input, in the layout that
    the input has; `steps` says what that leaves out. Answers are remembered as those of races are.
    """
    ran = answer.winner
    paths = [ran, *(path for path in answer.times if path != ran)]
    if _by_gemm(contest) is not None:
        paths.append(IM2COL)
    rows = []
    for path in paths:
        question = {**contest.question, "steps of": path}
        found = stopwatch.parts(question, partial(_steps, contest, path), device)
        parts = [{"name": name, "ms": ms} for name, ms in found.ms.items()]
        rows.append({"path": path, "parts": parts, "disturbed": found.disturbed})
    return rows


def _steps(contest: Contest, path: str) -> list[Step]:
    layer = _by_gemm(contest)
    if path == IM2COL and layer is not None:
        return bound(layer, contest.standing()[0].args[0])
    form = contest.form(path)
    return steps(form.module, form.args[0])


def _by_gemm(contest: Contest) -> GemmLayer | None:
    """The dense convolution as S1 runs it; None for other layers."""
    module = contest.standing()[0].module
    if not is_convolution(module):
        return None
    try:
        return GemmLayer(module)
    except ValueError:
        return None
