"""Operations of each layer on one example, counted on the meta device: no arithmetic is done."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..info import LayerInfo
from .model import Inputs


def count_flops(module: nn.Module, inputs: Inputs, rows: list[LayerInfo]) -> dict[str, int]:
    """FLOPs by layer path for one sample; a multiply-add counts as two.

    Raises whatever the model raises when it cannot run on the meta device.
    """
    by_module: dict[str, list[LayerInfo]] = {}
    for row in rows:
        if row.gemm is not None and row.kind not in ("Embedding", "EmbeddingBag"):
            by_module.setdefault(row.weight.rpartition(".")[0], []).append(row)
    flops: dict[str, int] = {}
    handles = []
    for path, found in by_module.items():
        child = module.get_submodule(path)

        def count(m: nn.Module, args: Any, kwargs: Any, output: Any, found: Any = found) -> None:
            for row in found:
                uses = _uses(m, args, kwargs, output)
                flops[row.path] = flops.get(row.path, 0) + 2 * row.gemm.stored_numel * uses
            if isinstance(m, nn.MultiheadAttention):
                # Its output projection is multiplied without calling the submodule.
                out = found[0].weight.rpartition(".")[0] + ".out_proj"
                if out in by_module:
                    size = m.out_proj.weight.numel()
                    flops[out] = flops.get(out, 0) + 2 * size * _uses(m, args, kwargs, output)

        handles.append(child.register_forward_hook(count, with_kwargs=True))
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        args, kwargs = inputs(1)
        state = {k: v.detach().to("meta") for k, v in module.state_dict(keep_vars=True).items()}
        state |= {n: b.to("meta") for n, b in module.named_buffers(remove_duplicate=False)}
        with torch.no_grad():
            torch.func.functional_call(module, state, _meta(args), _meta(kwargs), tie_weights=False)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for handle in handles:
            handle.remove()
    return flops


def _uses(module: nn.Module, args: Any, kwargs: Any, output: Any) -> int:
    """How many times the weight matrix is multiplied with a vector."""
    first = args[0] if args else next(iter(kwargs.values()))
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        return first.numel() // module.in_channels
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return output.numel() // module.out_channels
    return first.numel() // first.shape[-1]


def _meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    if isinstance(value, (list, tuple)):
        return type(value)(_meta(v) for v in value)
    if isinstance(value, dict):
        return {k: _meta(v) for k, v in value.items()}
    return value
