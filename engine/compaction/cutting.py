"""Cutting entries out of a module's parameters, and telling the modules of their new sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .attention import FewerHeads
from .window_attention import FewerWindowHeads, is_window_attention

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_HEADS = re.compile(r"(^|_)n?_?heads?$")

Cuts = Mapping[str, Mapping[int, Tensor]]


@dataclass(frozen=True)
class Heads:
    """Attention heads that go: `name` is the projection that reads them.

    `width` columns before, of which `after` of `before` equal parts stay.
    """

    name: str
    width: int
    before: int
    after: int


def cut(module: nn.Module, cuts: Cuts) -> None:
    """Keep only some entries of parameters and buffers of `module`, in place.

    `cuts` has by name and dimension the positions that stay, int64. A tensor with several names is
    cut once, and its modules still share it.
    """
    done: dict[int, Any] = {}
    keep = []  # ids of what is gone may come again
    for name, dims in cuts.items():
        path, _, attribute = name.rpartition(".")
        owner = module.get_submodule(path)
        tensor = getattr(owner, attribute)
        if id(tensor) not in done:
            keep.append(tensor)
            done[id(tensor)] = _selected(tensor, dims)
        before = tuple(tensor.shape)
        setattr(owner, attribute, done[id(tensor)])
        _fit(owner, attribute, before)


def _selected(tensor: Tensor, dims: Mapping[int, Tensor]) -> Tensor:
    smaller = tensor.detach()
    for dim, kept in dims.items():
        smaller = smaller.index_select(dim, kept.to(tensor.device))
    smaller = smaller.contiguous()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(smaller, tensor.requires_grad)
    return smaller


def _fit(owner: Any, attribute: str, before: tuple[int, ...]) -> None:
    """Bring the sizes that a module states in line with its weight."""
    shape = tuple(getattr(owner, attribute).shape)
    if isinstance(owner, nn.modules.batchnorm._NormBase):
        owner.num_features = shape[0]
    elif attribute != "weight":
        return
    elif isinstance(owner, _CONV):
        turned = isinstance(owner, _TRANSPOSED)
        if owner.groups > 1:
            owner.groups = owner.groups * shape[0] // before[0]
        sizes = (shape[0], shape[1] * owner.groups)
        owner.in_channels, owner.out_channels = sizes if turned else sizes[::-1]
    elif isinstance(owner, nn.Linear):
        owner.out_features, owner.in_features = shape
    elif isinstance(owner, (nn.Embedding, nn.EmbeddingBag)):
        owner.embedding_dim = shape[1]
    elif isinstance(owner, nn.PReLU):
        owner.num_parameters = shape[0]
    elif hasattr(owner, "nf") and len(shape) == 2:  # Hugging Face's Conv1D
        owner.nf = shape[1]
        if hasattr(owner, "nx"):
            owner.nx = shape[0]


def is_depthwise(module: Any) -> bool:
    """Whether the module is a convolution with one filter for each channel."""
    if not isinstance(module, _CONV) or isinstance(module, _TRANSPOSED):
        return False
    return 1 < module.groups == module.in_channels == module.out_channels


def cut_outputs(layer: Any, kept: Tensor) -> None:
    """Keep only the outputs `kept` (int64) of a linear layer or convolution, in place.

    A depthwise convolution loses the inputs too.
    """
    dim = 1 if isinstance(layer, _TRANSPOSED) else 0
    cuts = {"weight": {dim: kept}}
    if layer.bias is not None:
        cuts["bias"] = {0: kept}
    cut(layer, cuts)


def fit_heads(module: nn.Module, heads: Heads, names: list[str], widths: bool) -> None:
    """Tell the modules around cut parameters (`names`) of the heads that are gone, in place.

    An attention of torch or torchvision is replaced by one that can have fewer heads. Of others,
    integer attributes named like a number of heads shrink, and with `widths` those that were the
    inner width.
    """
    for path in _around(names):
        owner = module.get_submodule(path)
        fewer = _with_fewer_heads(owner)
        if fewer is not None:
            if not path:
                raise ValueError("the model is nothing but an attention")
            parent, _, name = path.rpartition(".")
            setattr(module.get_submodule(parent), name, fewer)
            fewer.num_heads = fewer.num_heads * heads.after // heads.before
            continue
        for attribute, value in list(vars(owner).items()):
            if type(value) is not int or value * heads.after % heads.before:
                continue
            if _HEADS.search(attribute) or (widths and value == heads.width):
                setattr(owner, attribute, value * heads.after // heads.before)


def _with_fewer_heads(owner: nn.Module) -> FewerHeads | FewerWindowHeads | None:
    """What takes the place of an attention that can't have fewer heads itself; None: it can."""
    if isinstance(owner, nn.MultiheadAttention):
        return FewerHeads(owner)
    return FewerWindowHeads(owner) if is_window_attention(owner) else None


def _around(names: list[str]) -> list[str]:
    """The modules that hold several of the parameters: from the common one down, without leaves."""
    paths = [name.split(".")[:-1] for name in names]
    common = 0
    while all(len(p) > common and p[common] == paths[0][common] for p in paths):
        common += 1
    found = {".".join(p[:end]) for p in paths for end in range(common, len(p) + 1)}
    return sorted(found)
