"""The layer table of a module: which parameters are matrices, how they are seen, why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from ..gemm import Gemm
from ..info import LayerInfo

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONV_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# What holds these computes with their weight and never calls them.
_READ_FROM_OUTSIDE = ("NonDynamicallyQuantizableLinear",)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_NORM = (
    nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm,
)  # fmt: skip


@dataclass(frozen=True)
class _Row:
    """One row to be: its weight's name inside the module and how the weight is seen."""

    weight: str
    gemm: Gemm | None
    reason: str | None = None
    own_path: bool = False
    extra: tuple[str, ...] = ()


def layer_rows(module: nn.Module) -> list[LayerInfo]:
    """One row per weight matrix, and one per module or parameter that is none, in module order.

    Every parameter is counted in exactly one row, but for tied ones, which are in several.
    """
    rows = []
    for path, child in module.named_modules():
        for row in _rows_of(child):
            rows.append(_layer(path, child, row))
    return _note_ties(module, rows)


def _rows_of(module: nn.Module) -> Iterator[_Row]:
    own = [name for name, p in module._parameters.items() if p is not None]
    if not own:
        return
    if isinstance(module, _CONV_TRANSPOSED):
        yield _matrix(module, own, transposed=True)
    elif isinstance(module, (*_CONV, nn.Linear)):
        yield _matrix(module, own)
    elif _is_hf_conv1d(module):
        yield _matrix(module, own, transposed=True)
    elif isinstance(module, nn.MultiheadAttention):
        yield from _attention(module, own)
    elif isinstance(module, _RECURRENT):
        yield from _recurrent(module, own)
    elif _is_router(module):
        yield _matrix(module, own)
    elif _is_experts(module):
        yield from _experts(module, own)
    elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        gemm = Gemm(tuple(module.weight.shape))
        yield _Row("weight", gemm, "an embedding is looked up, not multiplied", extra=_rest(own))
    elif isinstance(module, _NORM) or _looks_like_norm(module, own):
        yield _Row(own[0], None, "a norm has a scale per channel, not a matrix", extra=_rest(own))
    else:
        for name in own:
            reason = f"a parameter that {type(module).__name__} uses in its own way"
            if isinstance(module, parametrize.ParametrizationList):
                reason = "a layer's weight is computed from it"
            yield _Row(name, None, reason, own_path=True)


def _rest(own: list[str]) -> tuple[str, ...]:
    return tuple(own[1:])


def _matrix(module: nn.Module, own: list[str], transposed: bool = False) -> _Row:
    if "weight" not in own:
        return _Row(own[0], None, "its weight is computed from other parameters", extra=_rest(own))
    weight = module.weight
    assert isinstance(weight, Tensor)
    if isinstance(weight, UninitializedParameter):
        return _Row("weight", None, "its shape is not known before a first input")
    kernel = tuple(getattr(module, "kernel_size", ()))
    groups = int(getattr(module, "groups", 1))
    others = tuple(name for name in own if name != "weight")
    return _Row("weight", Gemm(tuple(weight.shape), kernel, groups, transposed), extra=others)


def _is_hf_conv1d(module: nn.Module) -> bool:
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.")


def _is_router(module: nn.Module) -> bool:
    """Whether it is one of transformers' routers, which multiply with a weight [experts, in]."""
    kind, weight = type(module), module._parameters.get("weight")
    named = kind.__name__.endswith("Router") and kind.__module__.startswith("transformers.")
    return named and weight is not None and weight.ndim == 2


def _is_experts(module: nn.Module) -> bool:
    """Whether it is a stack of experts as transformers stores them: see its integrations/moe.py."""
    return isinstance(getattr(module, "is_transposed", None), bool) and any(
        parameter is not None and parameter.ndim == 3 for parameter in module._parameters.values()
    )


def _experts(module: nn.Module, own: list[str]) -> Iterator[_Row]:
    for name in own:
        shape = tuple(getattr(module, name).shape)
        if len(shape) == 3:
            bias = (f"{name}_bias",) if f"{name}_bias" in own else ()
            transposed = bool(module.is_transposed)
            yield _Row(name, Gemm(shape, (), shape[0], transposed), own_path=True, extra=bias)


def _looks_like_norm(module: nn.Module, own: list[str]) -> bool:
    named = "norm" in type(module).__name__.lower()
    return named and all(module._parameters[name].ndim == 1 for name in own)  # type: ignore[union-attr]


def _attention(module: nn.MultiheadAttention, own: list[str]) -> Iterator[_Row]:
    names = [n for n in own if n.endswith("proj_weight")]
    others = tuple(n for n in own if n not in names)
    for index, name in enumerate(names):
        gemm = Gemm(tuple(getattr(module, name).shape))
        yield _Row(name, gemm, own_path=True, extra=others if index == 0 else ())


def _recurrent(module: nn.Module, own: list[str]) -> Iterator[_Row]:
    for name in own:
        if name.startswith("weight"):
            bias = name.replace("weight", "bias", 1)
            extra = (bias,) if bias in own else ()
            yield _Row(name, Gemm(tuple(getattr(module, name).shape)), own_path=True, extra=extra)


def _layer(path: str, module: nn.Module, row: _Row) -> LayerInfo:
    name = f"{path}.{row.weight}" if path else row.weight
    weight = getattr(module, row.weight)
    tensors = [weight, *(getattr(module, extra) for extra in row.extra)]
    reason = row.reason
    if reason is None and not weight.is_floating_point():
        reason = f"its weights are {_dtype(weight)}, not floating point"
    return LayerInfo(
        path=name if row.own_path else path or row.weight,
        kind="Parameter" if row.own_path and row.gemm is None else _kind(module),
        weight=name,
        shape=tuple(weight.shape),
        params=sum(t.numel() for t in tensors),
        dtype=_dtype(weight),
        gemm=row.gemm,
        prunable=reason is None,
        reason=reason,
        replaceable=not (row.own_path or type(module).__name__ in _READ_FROM_OUTSIDE),
    )


def _kind(module: nn.Module) -> str:
    """The class's name; torch's own specialisations of Linear are Linear to the person."""
    return "Linear" if isinstance(module, nn.Linear) else type(module).__name__


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _note_ties(module: nn.Module, rows: list[LayerInfo]) -> list[LayerInfo]:
    tensors = dict(module.named_parameters(remove_duplicate=False))
    users: dict[int, list[LayerInfo]] = {}
    for row in rows:
        if row.weight in tensors:
            users.setdefault(id(tensors[row.weight]), []).append(row)
    return [_tie(row, users.get(id(tensors.get(row.weight)), [row])) for row in rows]


def _tie(row: LayerInfo, users: list[LayerInfo]) -> LayerInfo:
    """Tied weights are pruned in one place: the first user, unless one may not be pruned at all."""
    others = tuple(user.path for user in users if user.path != row.path)
    if not others:
        return row
    forbidding = next((u for u in users if not u.prunable), None)
    if row.prunable and forbidding is not None:
        reason = f"shares its weight with {forbidding.path}: {forbidding.reason}"
    elif row.prunable and users[0].path != row.path:
        reason = f"shares its weight with {users[0].path} and is pruned there"
    else:
        return replace(row, shares=others)
    return replace(row, shares=others, prunable=False, reason=reason)


def count_parameters(module: nn.Module) -> int:
    """Parameters of the module, tied ones once."""
    return sum(p.numel() for p in module.parameters())


def with_densities(
    rows: tuple[LayerInfo, ...], weight: Callable[[str], Tensor]
) -> tuple[LayerInfo, ...]:
    """Fill in the density of each row whose density is not known; `weight` by state-dict name."""
    return tuple(
        replace(row, density=_density(weight(row.weight))) if row.density is None else row
        for row in rows
    )


def _density(tensor: Tensor) -> float:
    total = tensor.numel()
    return int(torch.count_nonzero(tensor.detach())) / total if total else 1.0
