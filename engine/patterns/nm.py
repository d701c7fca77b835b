"""N:M pruning (S2, S1 [9]): N of every M consecutive entries are kept; 2:4 above all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..errors import BadInput
from ..gemm import Gemm
from ..settings import setting
from .base import PATTERNS, Pattern

if TYPE_CHECKING:
    from torch import Tensor


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
    n: int = setting(2, low=1, high=64, help="Entries kept in each run.")
    m: int = setting(4, low=2, high=64, help="Length of a run.")
    order: str = setting(
        "flattened",
        choices=("flattened", "channel"),
        help="Where a convolution's runs lie: along (channel, kernel) as stored, or along the "
        "input channels at one kernel position, as sparse tensor cores need it.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n > self.m:
            raise BadInput(f"nm:{self.n}:{self.m} keeps more than it has; N must be at most M")

    @property
    def fixed_sparsity(self) -> float | None:
        return 1 - self.n / self.m

    def mask(self, scores: Tensor, sparsity: float, gemm: Gemm | None = None) -> Tensor:
        """See `Pattern.mask`; `sparsity` is not used, N and M say it."""
        from ...kernels.select import keep_n_of_m

        gemm = gemm or Gemm(tuple(scores.shape))
        if self.order == "flattened":
            return keep_n_of_m(scores, self.n, self.m)
        out, ins = gemm.shape
        lanes = scores.reshape(out, gemm.channels, gemm.taps).transpose(1, 2)
        kept = keep_n_of_m(lanes.reshape(out * gemm.taps, gemm.channels), self.n, self.m)
        return kept.view(out, gemm.taps, gemm.channels).transpose(1, 2).reshape(out, ins)
