"""The forms of a layer whose weight holds zeros that may run faster than the dense one."""

from __future__ import annotations

from torch import Tensor, nn

from ..products.gather import ChannelConv2d, GroupedConv2d, GroupedLinear

GATHER = "grouped (gather)"
CHANNELS = "grouped (channels)"
SPARSE = (GroupedLinear, GroupedConv2d, ChannelConv2d)
"""What the modules made here are."""


def candidates(module: nn.Module) -> dict[str, nn.Module]:
    """The layer in every sparse form that fits the zeros of its weight, by executed path."""
    return _without_columns(module)


def zero_columns(module: nn.Module) -> Tensor | None:
    """Columns of W that are zero for all outputs, bool [in]; None for layers without that form."""
    plain = isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    if not plain:
        return None
    weight = module.weight
    assert isinstance(weight, Tensor)
    return (weight.detach().flatten(1) == 0).all(dim=0)


def _without_columns(module: nn.Module) -> dict[str, nn.Module]:
    """Forms that skip the columns that are zero for all outputs; none if there are none."""
    gone = zero_columns(module)
    if gone is None or not bool(gone.any()):
        return {}
    if isinstance(module, nn.Linear):
        return {GATHER: GroupedLinear.from_dense(module, ~gone)}
    assert isinstance(module, nn.Conv2d)
    forms: dict[str, nn.Module] = {}
    if module.kernel_size != (1, 1):
        forms[GATHER] = GroupedConv2d.from_dense(module, ~gone)
    if bool(gone.view(module.in_channels, -1).all(dim=1).any()) and not bool(gone.all()):
        forms[CHANNELS] = ChannelConv2d.from_dense(module, ~gone)
    return forms
