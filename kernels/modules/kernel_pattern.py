"""Convolutions whose kernels keep one of a few patterns (S4, PCONV), as a few gathered products.

Filters that keep the same entries come together, and each such set is one group-wise product over
the positions that it keeps. Where the filters fall into more sets than that pays for, as when each
kernel has a pattern of its own, all are one set over the positions that any of them keeps, most
often every one: nothing is gained then.

Measured on the CPU (`python tests/bench/bench_kernel_pattern.py`), only one pattern per channel
wins on average, which is one gather and one product. One per filter loses, as each set gathers
anew; one per kernel, the usual choice, loses. `work` tells the last from the others beforehand; a
layer keeps this form only where it measures faster. For small batches on a GPU, E entries of each
kernel are E:(kh * kw) on the GEMM view, which `nm.py` multiplies.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from .conv import SparseConv

# A layer's library holds that many patterns at most.
MOST_SETS = 16


class PatternConv2d(nn.Module):
    """A convolution by sets of filters: [n, c, h, w] -> [n, out, h', w'].

    `products` are their group-wise convolutions, `places` int64 [out] where each filter's output
    lies among theirs, or None where it is in place. `work` is what they multiply, as a share of the
    dense convolution's multiplications.
    """

    places: Tensor | None

    def __init__(self, products: list[SparseConv], places: Tensor | None, work: float) -> None:
        super().__init__()
        self.products = nn.ModuleList(products)
        self.register_buffer("places", places)
        self.work = work

    @classmethod
    def from_dense(cls, module: nn.Conv2d, mask: Tensor) -> Self:
        """Take the entries of a convolution that `mask` keeps, bool [out, in] on the GEMM view.

        Raises ValueError for several groups and for a mask of another shape.
        """
        if module.groups != 1:
            raise ValueError(f"a convolution of {module.groups} groups has no such product")
        weight = module.weight.detach()
        if tuple(mask.shape) != (len(weight), weight[0].numel()):
            expected = list(weight.flatten(1).shape)
            raise ValueError(f"the mask must be bool {expected}, not {list(mask.shape)}")
        rows, which = mask.unique(dim=0, return_inverse=True)
        if len(rows) > MOST_SETS:
            rows, which = mask.any(dim=0, keepdim=True), torch.zeros_like(which)
        masked = weight * mask.view_as(weight)
        sets = [(which == number).nonzero().flatten() for number in range(len(rows))]
        products = [
            SparseConv.from_dense(
                _filters(module, masked, filters), mask=row.expand(len(filters), -1)
            )
            for filters, row in zip(sets, rows, strict=True)
        ]
        places = torch.cat(sets).argsort() if len(sets) > 1 else None
        done = sum(product.values.numel() for product in products)
        return cls(products, places, done / max(1, weight.numel()))

    def forward(self, x: Tensor) -> Tensor:
        parts = [product(x) for product in self.products]
        return parts[0] if self.places is None else torch.cat(parts, 1).index_select(1, self.places)


def _filters(module: nn.Conv2d, weight: Tensor, filters: Tensor) -> nn.Conv2d:
    """The convolution with some of its filters only, their weights taken from `weight`."""
    small = nn.Conv2d(
        module.in_channels,
        len(filters),
        module.kernel_size,  # type: ignore[arg-type]
        module.stride,  # type: ignore[arg-type]
        module.padding,  # type: ignore[arg-type]
        module.dilation,  # type: ignore[arg-type]
        bias=module.bias is not None,
        padding_mode=module.padding_mode,
        device="meta",
    )
    small.weight = nn.Parameter(weight[filters], requires_grad=False)
    if module.bias is not None:
        small.bias = nn.Parameter(module.bias.detach()[filters], requires_grad=False)
    return small
