"""N:M pruning (S2, S1 [9]): N of every M consecutive entries are kept; 2:4 above all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ..errors import BadInput
from ..gemm import Gemm
from ..settings import setting
from .base import PATTERNS, Pattern

if TYPE_CHECKING:
    from torch import Tensor

    from ..info import LayerInfo


@PATTERNS.register
@dataclass(frozen=True)
class NM(Pattern):
    """N of every M consecutive entries of a row are kept.

    2:4 is what sparse tensor cores run, on a convolution in ``channel`` order.
    Rows whose length is no multiple of M are padded for the choice, never truncated.
    """

    kind: ClassVar[str] = "nm"
    short: ClassVar[str] = "nm:{n}:{m}"
    label: ClassVar[str] = "N:M"
    rank: ClassVar[int] = 20
    unit: ClassVar[str] = "weight"
    format: ClassVar[str] = "nm"
    runs: ClassVar[bool] = True
    n: int = setting(2, low=1, high=64, help="Entries kept in each run.")
    m: int = setting(4, low=2, high=64, help="Length of a run.")
    order: str = setting(
        "flattened",
        choices=("flattened", "channel"),
        help="Where a convolution's runs lie: along (channel, kernel) as stored, or along the "
        "input channels at one kernel position, as sparse tensor cores need it.",
    )
    permute: bool = setting(
        False,
        help="Put input channels in the order that keeps most before choosing; needs order channel "
        "on a convolution. Layers that read the same channels share it; export folds it in.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n > self.m:
            raise BadInput(f"nm:{self.n}:{self.m} keeps more than it has; N must be at most M")

    def misfit(self, layer: LayerInfo) -> str | None:
        gemm = layer.gemm
        assert gemm is not None
        if self.permute and self.order == "flattened" and gemm.taps > 1:
            return "is a convolution, where permute needs order: channel"
        along = gemm.shape[1] if self.order == "flattened" else gemm.channels
        if along >= self.m:
            return None
        if gemm.shape[1] >= self.m:
            return (
                f"has {along} input channels, fewer than the {self.m} of one run; order flattened "
                "or element would fit"
            )
        return f"has rows of {along}, shorter than one run of {self.m}; element would fit"

    @property
    def fixed_sparsity(self) -> float | None:
        return 1 - self.n / self.m

    def mask(self, scores: Tensor, sparsity: float, gemm: Gemm | None = None) -> Tensor:
        """See `Pattern.mask`; `sparsity` is not used, N and M say it.

        With `permute` the layer's own best order is searched, which takes seconds on a large one.
        """
        from ...kernels.selection.permutation import search
        from ...kernels.selection.select import keep_n_of_m

        gemm = gemm or Gemm(tuple(scores.shape))
        if self.permute:
            found = search(lanes(scores, gemm), self.n, self.m)
            return InOrder(self, found).mask(scores, sparsity, gemm)
        return keep_n_of_m(scores, self.n, self.m, gemm.taps if self.order == "channel" else 1)


@dataclass(frozen=True, eq=False)
class InOrder(Pattern):
    """N:M with the input channels in a given order; masks are in the layer's own order.

    `order` is int64 [channels]: place j holds the channel ``order[j]``. It is made for a layer and
    stands in no plan.
    """

    format: ClassVar[str] = "nm"
    pattern: NM
    order: Tensor

    def __post_init__(self) -> None:
        """There is nothing to check: these are no settings."""

    @property
    def fixed_sparsity(self) -> float | None:
        return self.pattern.fixed_sparsity

    def mask(self, scores: Tensor, sparsity: float, gemm: Gemm | None = None) -> Tensor:
        """See `Pattern.mask`."""
        import torch

        gemm = gemm or Gemm(tuple(scores.shape))
        split = (gemm.shape[0], gemm.channels, gemm.taps)
        order = self.order.to(scores.device)
        inside = scores.reshape(split)[:, order].reshape(gemm.shape)
        chosen = replace(self.pattern, permute=False).mask(inside, sparsity, gemm).reshape(split)
        mask = torch.empty_like(chosen)
        mask[:, order] = chosen
        return mask.reshape(gemm.shape)


def lanes(scores: Tensor, gemm: Gemm) -> Tensor:
    """[outputs x taps, channels]: the rows of a layer's scores [out, in] along its channels."""
    split = scores.reshape(gemm.shape[0], gemm.channels, gemm.taps)
    return split.transpose(1, 2).reshape(-1, gemm.channels)
