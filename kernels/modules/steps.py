"""The steps of a layer's forms as calls of their own (S1, figures 12 to 14).

``gather`` copies the inputs that are kept, ``im2col`` all that a kernel sees, ``select`` takes
channels or features, ``multiply`` is the product, ``reshape`` puts the outputs where they belong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from ..cuda.launch import launchable
from ..products.grouped.cpu import gathered
from .conv import SparseConv
from .kernel_pattern import PatternConv2d
from .linear import SparseLinear
from .reduced import ReducedLayer

Step = tuple[str, Callable[[], object]]
"""The name of a step, and a call that does it on what the steps before it left."""


@torch.inference_mode()
def steps(module: nn.Module, x: Tensor) -> list[Step]:
    """What `module` does to `x`, cut into calls that can be timed each by itself.

    A name may come several times. One ``multiply`` where it is all one piece: products of the
    library's, and kernels and loops that gather inside. Apart, the steps take longer than the whole
    where it works in pieces that stay in the cache, as the CPU's grouped convolution does, and each
    starts and ends by itself; what is between them, the making of results most of all, counts for
    none.
    """
    if isinstance(module, PatternConv2d):
        return _of_sets(module, x)
    if isinstance(module, ReducedLayer):
        return _of_smaller(module, x)
    if isinstance(module, SparseConv) and x.dim() == len(module.window.kernel) + 2:
        return _of_convolution(module, x)
    if isinstance(module, SparseLinear) and module.form == "grouped" and not launchable(x):
        (kept,) = module.indices
        flat = x.reshape(-1, module.sizes[1])
        taken = flat.index_select(1, kept)
        return [
            ("select", lambda: flat.index_select(1, kept)),
            ("multiply", lambda: nn.functional.linear(taken, module.values, module.bias)),
        ]
    return [("multiply", lambda: module(x))]


def _of_sets(module: PatternConv2d, x: Tensor) -> list[Step]:
    found = [*chain.from_iterable(steps(product, x) for product in module.products)]
    places = module.places
    if places is not None:
        parts = [product(x) for product in module.products]
        found.append(("reshape", lambda: torch.cat(parts, 1).index_select(1, places)))
    return found


def _of_smaller(module: ReducedLayer, x: Tensor) -> list[Step]:
    found: list[Step] = []
    if module.inputs is not None:
        found.append(("select", partial(module.selected, x)))
        x = module.selected(x)
    y = module.layer(x)
    found.append(("multiply", lambda: module.layer(x)))
    if module.outputs is not None:
        found.append(("reshape", lambda: module.placed(y)))
    return found


def _of_convolution(module: SparseConv, x: Tensor) -> list[Step]:
    padded = module.padded(x)
    if module.form != "grouped":
        matrix = module.matrix_on_cpu(padded)
        if matrix is not None and module.scattered(matrix, padded) is not None:
            return [("multiply", lambda: module(x))]
        patches, _ = module.patches(padded)
        return [
            ("im2col", lambda: module.patches(padded)),
            ("multiply", lambda: module.by_patches(patches)),
        ]
    inside = not x.is_cpu or launchable(x) or x.dim() == 3 or module.groups > 1
    if inside or module.plan(padded).loops is not None:
        return [("multiply", lambda: module(x))]
    plan = module.plan(padded)

    def gather() -> None:
        for _ in gathered(padded, plan):
            pass

    # In the whole, too, all pieces lie in one place, which stays in the cache.
    weight, bias = module.values, module.bias
    kept, pixels = len(plan.starts), math.prod(plan.outputs)
    wide = [rows.shape[1] for _, _, rows in gathered(padded, plan)]
    rows, room = x.new_zeros(kept * max(wide)), x.new_zeros(len(weight) * max(wide))

    def multiply() -> None:
        for width in wide:
            given, result = rows[: kept * width], room[: len(weight) * width]
            _product(weight, given.view(kept, width), bias, result.view(-1, width))

    found: list[Step] = [("gather", gather), ("multiply", multiply)]
    if plan.images > 1:
        turned = [room[: len(weight) * width].view(len(weight), -1, pixels) for width in wide]
        found.append(("reshape", lambda: [piece.transpose(0, 1).contiguous() for piece in turned]))
    return found


def _product(weight: Tensor, rows: Tensor, bias: Tensor | None, result: Tensor) -> None:
    if bias is None:
        torch.mm(weight, rows, out=result)
    else:
        torch.addmm(bias[:, None], weight, rows, out=result)
