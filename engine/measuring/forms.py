"""The forms in which a pruned layer or model can run, to be timed against the dense one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.dispatch.race import Form
from ..compaction import cut_outputs, is_depthwise


def with_mask(module: nn.Module, mask: Tensor) -> nn.Module:
    """A copy of a layer whose weight is zero where `mask` (bool, in the stored shape) is False."""
    pruned = copy.deepcopy(module)
    assert isinstance(pruned.weight, Tensor)
    with torch.no_grad():
        pruned.weight.masked_fill_(~mask, 0)
    return pruned


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
