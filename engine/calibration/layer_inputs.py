"""What a layer multiplies its weight with, seen by a hook while the model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..gemm import Gemm
from ..im2col import im2col, windows
from ..info import LayerInfo

_BYTES_AT_ONCE = 64 << 20


class LayerInputs:
    """One layer's inputs in one call, group by group of the outputs that see the same.

    `parts` are one tensor for each group of a plain matrix, features last; or the one input
    [n, c, *size] of a convolution, which `owner` is and which has groups of its own.
    """

    def __init__(self, owner: nn.Module, gemm: Gemm, parts: tuple[Tensor, ...]) -> None:
        self._owner, self._gemm, self._parts = owner, gemm, parts

    def squares(self) -> Tensor:
        """Sum over positions of each input's square, float32 [groups, in]."""
        gemm = self._gemm
        if not gemm.kernel:
            return torch.stack([rows.square().sum(0) for rows in self._rows()])
        seen = windows(self._owner, gemm, self._images().float().square())
        dims = len(gemm.kernel)
        return seen.sum(dim=[0, *range(2, 2 + dims)]).reshape(gemm.groups, -1)

    def products(self) -> Tensor:
        """X·Xᵀ over all positions, float32 [groups, in, in]."""
        gemm = self._gemm
        if not gemm.kernel:
            return torch.stack([rows.T @ rows for rows in self._rows()])
        total = None
        for images in self._some():
            columns = im2col(self._owner, gemm, images)[0].transpose(0, 1).transpose(1, 2)
            flat = columns.reshape(gemm.groups, gemm.shape[1], -1)
            part = flat @ flat.transpose(1, 2)
            total = part if total is None else total.add_(part)
        assert total is not None
        return total

    def _rows(self) -> Iterator[Tensor]:
        for part in self._parts:
            yield part.reshape(-1, part.shape[-1]).float()

    def _images(self) -> Tensor:
        (x,) = self._parts
        return x.unsqueeze(0) if x.dim() == len(self._gemm.kernel) + 1 else x

    def _some(self) -> Iterator[Tensor]:
        """As many images at a time as their columns fit into memory set aside."""
        images = self._images().float()
        columns = self._gemm.taps * images[0].nbytes
        yield from images.split(max(1, _BYTES_AT_ONCE // columns))


def listen(
    module: nn.Module, layer: LayerInfo, receive: Callable[[LayerInputs], None]
) -> RemovableHandle:
    """Call `receive` with the inputs of `layer` whenever `module` multiplies them with its weight.

    `layer` is a row of the module's table. Raises LookupError for a layer whose inputs cannot be
    seen.
    """
    gemm = layer.gemm
    assert gemm is not None
    place, _, name = layer.weight.rpartition(".")
    owner = module.get_submodule(place)
    above = module.get_submodule(place.rpartition(".")[0])
    inside = place.rpartition(".")[2]
    if isinstance(above, nn.MultiheadAttention) and inside == "out_proj":
        # Attention multiplies with this weight without calling the submodule.
        return above.register_forward_pre_hook(_Projected(above, gemm, receive), with_kwargs=True)
    if isinstance(owner, nn.MultiheadAttention):

        def attended(part: nn.Module, args: Any, kwargs: Any) -> None:
            receive(LayerInputs(part, gemm, _attended(name, args, kwargs)))

        return owner.register_forward_pre_hook(attended, with_kwargs=True)
    if isinstance(owner, nn.RNNBase | nn.RNNCellBase) or gemm.stacked:
        raise LookupError(f"{layer.path}: the inputs of {layer.kind} cannot be seen from outside")

    def called(part: nn.Module, args: Any, kwargs: Any) -> None:
        x = args[0] if args else next(iter(kwargs.values()))
        receive(LayerInputs(part, gemm, (x,)))

    return owner.register_forward_pre_hook(called, with_kwargs=True)


def _attended(name: str, args: Any, kwargs: Any) -> tuple[Tensor, ...]:
    """What a weight of the input projection multiplies: one input, or one for each third."""
    given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
    query, key, value = given["query"], given["key"], given["value"]
    if name == "in_proj_weight":
        return (query,) if query is key is value else (query, key, value)
    return ({"q": query, "k": key, "v": value}[name[0]],)


class _Projected:
    """Hook that finds what goes into attention's output projection.

    The attention is computed once more with the identity for a projection; its output is then the
    projection's input.
    """

    def __init__(
        self, module: nn.MultiheadAttention, gemm: Gemm, receive: Callable[[LayerInputs], None]
    ) -> None:
        weight = module.out_proj.weight
        self._identity = {"out_proj.weight": torch.eye(len(weight)).to(weight)}
        if module.out_proj.bias is not None:
            self._identity["out_proj.bias"] = torch.zeros_like(module.out_proj.bias)
        self._gemm, self._receive = gemm, receive
        self._inside = False

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._inside:
            return
        self._inside = True
        try:
            output = torch.func.functional_call(module, self._identity, args, kwargs)
        finally:
            self._inside = False
        self._receive(LayerInputs(module, self._gemm, (output[0],)))
