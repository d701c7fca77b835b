"""The forms in which a pruned layer or model can run, to be timed against the dense one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.products.gather import ChannelConv2d, GroupedConv2d, GroupedLinear
from ..compaction import cut_outputs, is_depthwise

DENSE = "dense"
GATHER = "grouped (gather)"
CHANNELS = "grouped (channels)"
GROUPED = (GroupedLinear, GroupedConv2d, ChannelConv2d)


@dataclass(frozen=True)
class Form:
    """One way to run something: the module, and what it is called with.

    `path` is the executed path in words, as a cell of the table shows it.
    """

    path: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def calls(self) -> list[Callable[[], object]]:
        """The calls to time: as it is and, with convolutions, with channels last as well."""

        def plain() -> object:
            return self.module(*self.args, **self.kwargs)

        if not any(isinstance(m, nn.Conv2d) for m in self.module.modules()):
            return [plain]
        last = copy.deepcopy(self.module).to(memory_format=torch.channels_last)
        args = tuple(_channels_last(arg) for arg in self.args)
        kwargs = {name: _channels_last(arg) for name, arg in self.kwargs.items()}
        return [plain, lambda: last(*args, **kwargs)]


def _channels_last(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dim() == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value


@dataclass(frozen=True)
class Call:
    """What a layer was called with in a run of the whole model."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def example(self, device: torch.device) -> Tensor:
        """A random input of the same kind, the same every time."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.shape, generator=generator).to(device, self.dtype)


def recorded(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], paths: Iterable[str]
) -> dict[str, Call]:
    """Run `module` once and note what the modules at `paths` are called with, by path.

    Left out are paths that are no module, and modules that were not called or take anything else
    than one floating tensor.
    """
    calls: dict[str, Call] = {}
    modules = dict(module.named_modules())

    def note(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            lone = len(given) == 1 and not named and isinstance(given[0], Tensor)
            if lone and given[0].is_floating_point():
                calls.setdefault(path, Call(tuple(given[0].shape), given[0].dtype))

        return hook

    hooks = [
        modules[path].register_forward_pre_hook(note(path), with_kwargs=True)
        for path in paths
        if path in modules
    ]
    try:
        with torch.inference_mode():
            module(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def with_mask(module: nn.Module, mask: Tensor) -> nn.Module:
    """A copy of a layer whose weight is zero where `mask` (bool, in the stored shape) is False."""
    pruned = copy.deepcopy(module)
    assert isinstance(pruned.weight, Tensor)
    with torch.no_grad():
        pruned.weight.masked_fill_(~mask, 0)
    return pruned


def zero_columns(module: nn.Module) -> Tensor | None:
    """Columns of W that are zero for all outputs, bool [in]; None for layers without that form."""
    plain = isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    if not plain:
        return None
    weight = module.weight
    assert isinstance(weight, Tensor)
    return (weight.detach().flatten(1) == 0).all(dim=0)


def grouped_forms(module: nn.Module, x: Tensor) -> list[Form]:
    """Forms that skip the columns that are zero in the layer's weight; none if there are none."""
    gone = zero_columns(module)
    if gone is None or not bool(gone.any()):
        return []
    if isinstance(module, nn.Linear):
        return [Form(GATHER, GroupedLinear.from_dense(module, ~gone), (x,), {})]
    assert isinstance(module, nn.Conv2d)
    forms = []
    if module.kernel_size != (1, 1):
        forms.append(Form(GATHER, GroupedConv2d.from_dense(module, ~gone), (x,), {}))
    if bool(gone.view(module.in_channels, -1).all(dim=1).any()) and not bool(gone.all()):
        forms.append(Form(CHANNELS, ChannelConv2d.from_dense(module, ~gone), (x,), {}))
    return forms


def fewer_outputs(module: Any, kept: Tensor, x: Tensor) -> Form | None:
    """The layer with only the outputs that `kept` (bool [out]) names, None if it has no such form.

    Of a depthwise convolution the input channels go too.
    """
    convolution = isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
    if not convolution and not isinstance(module, nn.Linear):
        return None
    if not bool(kept.any()) or bool(kept.all()):
        return None
    depthwise = is_depthwise(module)
    if convolution and module.groups > 1 and not depthwise:
        return None
    index = torch.nonzero(kept).flatten()
    small = copy.deepcopy(module)
    cut_outputs(small, index)
    given = x.index_select(1, index.to(x.device)) if depthwise else x
    return Form("compacted", small, (given,), {})


def replaced(module: nn.Module, layers: Mapping[str, nn.Module]) -> nn.Module:
    """A deep copy of `module` with the modules at some paths replaced."""
    result = copy.deepcopy(module)
    for path, layer in layers.items():
        parent, _, name = path.rpartition(".")
        setattr(result.get_submodule(parent), name, layer)
    return result
