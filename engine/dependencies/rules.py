"""How operations without weights move channels: one small rule per family.

A rule gets the layout of its first operand and returns that of its result, or None where it can't
say exactly; what it does not follow stays as it is. `name` is the bare name of the function or
tensor method, such as ``"relu"``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx

from .spaces import Layout

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One call of a function or tensor method: the graph's node, shapes before and after."""

    node: fx.Node
    name: str
    before: Shape
    after: Shape

    def argument(self, index: int, *names: str, default: Any = None) -> Any:
        """The argument at `index` (0 is the tensor) or under one of `names`."""
        if index < len(self.node.args):
            return self.node.args[index]
        found = [self.node.kwargs[name] for name in names if name in self.node.kwargs]
        return found[0] if found else default

    def dims(self, *names: str) -> tuple[int, ...] | None:
        """The dimensions named in the call, counted from the front; None where none are."""
        given = self.argument(1, *names)
        if given is not None and not isinstance(given, (tuple, list)):
            given = self.node.args[1:] if len(self.node.args) > 1 else (given,)
        if not given or not all(isinstance(dim, int) for dim in given):
            return None
        return tuple(dim % len(self.before) for dim in given)


Rule = Callable[[Layout, Call], Layout | None]


def keeps_zero(function: Callable[[torch.Tensor], Any]) -> bool:
    """Whether an elementwise function maps 0 to 0, by trying it."""
    with torch.no_grad():
        result = function(torch.zeros(1))
    return isinstance(result, torch.Tensor) and bool((result == 0).all())


def through(layout: Layout, zero_stays: bool) -> Layout:
    """The layout after something that treats every channel alike and for itself."""
    return layout if zero_stays else replace(layout, zero=np.zeros_like(layout.zero))


def elementwise(layout: Layout, call: Call) -> Layout | None:
    """Activations, dropout, casts and copies."""
    node = call.node
    if len(node.all_input_nodes) != 1 or call.before != call.after or not node.args:
        return None
    rest, named = node.args[1:], node.kwargs

    def function(x: torch.Tensor) -> Any:
        if callable(node.target):
            return node.target(x, *rest, **named)
        return getattr(x, node.target)(*rest, **named)

    return through(layout, keeps_zero(function))


def pooled(layout: Layout, call: Call) -> Layout | None:
    """Pooling and interpolation over the dimensions behind the channels."""
    spatial = int(call.name[-2]) if call.name.endswith("d") else len(call.before) - 2
    same = len(call.before) == len(call.after) and layout.dim == len(call.before) - 1 - spatial
    return layout if same and call.after[layout.dim] == len(layout.atoms) else None


def padded(layout: Layout, call: Call) -> Layout | None:
    """Padding of other dimensions than the channels."""
    if call.after[layout.dim] != call.before[layout.dim]:
        return None
    mode, value = call.argument(2, "mode", default="constant"), call.argument(3, "value")
    return through(layout, mode != "constant" or not value)


def reduced(layout: Layout, call: Call) -> Layout | None:
    """Means, sums and maxima over other dimensions than the channels."""
    dims = call.dims("dim", "axis")
    if dims is None or layout.dim in dims or not call.after:
        return None
    if len(call.after) == len(call.before):
        return layout
    return replace(layout, dim=layout.dim - sum(dim < layout.dim for dim in dims))


def flattened(layout: Layout, call: Call) -> Layout | None:
    """`flatten`: every channel becomes as many as it had positions."""
    last = len(call.before) - 1
    start, end = call.argument(1, "start_dim", default=0), call.argument(2, "end_dim", default=-1)
    if not isinstance(start, int) or not isinstance(end, int):
        return None
    return merge(layout, call.before, start % (last + 1), end % (last + 1))


def merge(layout: Layout, shape: Shape, start: int, end: int) -> Layout | None:
    """The layout after dimensions `start` to `end`, inclusive, became one."""
    if start <= layout.dim <= end:
        if start != layout.dim:
            return None
        positions = prod(shape[start + 1 : end + 1])
        if positions == 1:
            return layout
        atoms, zero = layout.atoms.repeat(positions), layout.zero.repeat(positions)
        return Layout(layout.dim, atoms, zero)
    return replace(layout, dim=layout.dim - (end - start)) if layout.dim > end else layout


def reshaped(layout: Layout, call: Call) -> Layout | None:
    """`view` and `reshape` where they do what `flatten` does, with the last size left open.

    A size written as a number would be wrong once channels are gone.
    """
    sizes = call.argument(1, "shape", "size")
    sizes = tuple(sizes) if isinstance(sizes, (tuple, list)) else call.node.args[1:]
    dim = layout.dim
    plain = len(call.after) == dim + 1 and call.before[:dim] == call.after[:dim]
    if not plain or len(sizes) != dim + 1 or sizes[-1] != -1:
        return None
    return merge(layout, call.before, dim, len(call.before) - 1)


def permuted(layout: Layout, call: Call) -> Layout | None:
    """`permute`: the channels are where their dimension went."""
    dims = call.dims("dims")
    if dims is None or len(dims) != len(call.before):
        return None
    return replace(layout, dim=dims.index(layout.dim))


def transposed(layout: Layout, call: Call) -> Layout | None:
    """`transpose`: two dimensions change places."""
    ends = call.argument(1, "dim0"), call.argument(2, "dim1")
    if not all(isinstance(end, int) for end in ends):
        return None
    one, two = (end % len(call.before) for end in ends)
    return replace(layout, dim={one: two, two: one}.get(layout.dim, layout.dim))


def squeezed(layout: Layout, call: Call) -> Layout | None:
    """`squeeze` of named dimensions other than the channels."""
    dims = call.dims("dim")
    if dims is None or layout.dim in dims:
        return None
    gone = sum(dim < layout.dim for dim in dims if call.before[dim] == 1)
    return replace(layout, dim=layout.dim - gone)


def unsqueezed(layout: Layout, call: Call) -> Layout | None:
    """`unsqueeze`: a new dimension somewhere."""
    place = call.argument(1, "dim")
    if not isinstance(place, int):
        return None
    return replace(layout, dim=layout.dim + (place % len(call.after) <= layout.dim))


def untouched(layout: Layout, call: Call) -> Layout | None:
    """What gives its operand back in eval mode."""
    return layout if call.before == call.after else None


_ELEMENTWISE = [
    "abs", "celu", "clamp", "clone", "contiguous", "dropout", "dropout1d",
    "dropout2d", "dropout3d", "elu", "float", "gelu", "hardsigmoid", "hardswish",
    "hardtanh", "leaky_relu", "logsigmoid", "mish", "neg", "relu", "relu6",
    "relu_", "selu", "sigmoid", "silu", "softplus", "softsign", "sqrt",
    "square", "tanh", "to", "type_as",
]  # fmt: skip
_POOLS = [
    f"{kind}_pool{spatial}d"
    for kind in ("max", "avg", "lp", "adaptive_avg", "adaptive_max")
    for spatial in (1, 2, 3)
]

RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, elementwise),
    **dict.fromkeys([*_POOLS, "interpolate"], pooled),
    **dict.fromkeys(["mean", "sum", "amax", "amin"], reduced),
    **dict.fromkeys(["view", "reshape"], reshaped),
    **dict.fromkeys(["transpose", "swapaxes"], transposed),
    "pad": padded,
    "flatten": flattened,
    "permute": permuted,
    "squeeze": squeezed,
    "unsqueeze": unsqueezed,
    "stochastic_depth": untouched,
}
