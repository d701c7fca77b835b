"""What decides which form of a layer is the fastest, as plain values to look up."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..modules.layers import matrix_of
from .host import facts, kernels

Json = dict[str, Any]


def question_of(module: nn.Module, x: Tensor) -> Json:
    """The layer, the lie of its zeros, its input, this machine and its libraries.

    Layers with the same answers here are taken to be equally fast in each form: which of the
    weights are zero matters only through the counts of whole rows, columns and blocks.
    """
    matrix = matrix_of(module)
    return {
        "layer": repr(module),
        "weight": None if matrix is None else list(matrix.shape),
        "zeros": None if matrix is None else _lie_of(matrix != 0),
        "input": list(x.shape),
        "channels_last": x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last),
        "dtype": str(x.dtype).removeprefix("torch."),
        "kernels": kernels(),
        **facts(x.device),
    }


def _lie_of(kept: Tensor) -> Json:
    """Per cent of entries and 4 x 4 blocks in use; rows and columns in use; most of any four.

    Blocks to ten per cent where most are in use: then they are no way to store the layer, and
    layers of one shape and share of zeros have the same answer.
    """
    out, ins = kept.shape
    tall, wide = kept[: out - out % 4], kept[:, : ins - ins % 4]
    blocks = tall[:, : wide.shape[1]].reshape(out // 4, 4, ins // 4, 4).any(dim=3).any(dim=1)
    used = float(blocks.float().mean()) if blocks.numel() else 0.0
    runs = wide.reshape(out, ins // 4, 4).sum(dim=2)
    return {
        "density": round(100 * float(kept.float().mean()), 1) if kept.numel() else 0.0,
        "rows": int(kept.any(dim=1).sum()),
        "columns": int(kept.any(dim=0).sum()),
        "blocks": round(100 * used) if used < 0.5 else 10 * round(10 * used),
        "of_four": int(runs.max()) if runs.numel() else 0,
    }
