"""Block pruning (S1, S4 "whole block"): tiles of H outputs by W inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..gemm import Gemm
from ..settings import setting
from .base import PATTERNS, Pattern

if TYPE_CHECKING:
    from torch import Tensor

    from ..info import LayerInfo


@PATTERNS.register
@dataclass(frozen=True)
class Block(Pattern):
    """Tiles of neighbouring outputs and inputs go together.

    Larger tiles run faster and cost more accuracy. Tiles at the edge may be ragged.
    """

    kind: ClassVar[str] = "block"
    short: ClassVar[str] = "block:{height}x{width}"
    label: ClassVar[str] = "block"
    rank: ClassVar[int] = 30
    runs: ClassVar[bool] = True
    unit: ClassVar[str] = "block"
    height: int = setting(4, low=1, high=1024, help="Outputs in one tile.")
    width: int = setting(4, low=1, high=1024, help="Inputs in one tile.")

    def misfit(self, layer: LayerInfo) -> str | None:
        gemm = layer.gemm
        assert gemm is not None
        out, ins = gemm.shape
        if self.height > out or self.width > ins:
            fits = f"block:{min(self.height, out)}x{min(self.width, ins)}"
            size = f"{self.height}x{self.width}"
            return f"is {out}x{ins}, smaller than one {size} block; {fits} would fit"
        return None

    def whole_outputs(self, gemm: Gemm) -> bool:
        """See `Pattern.whole_outputs`."""
        return self.width >= gemm.shape[1]

    def sizes(self, gemm: Gemm) -> Tensor | None:
        import torch

        out, ins = gemm.shape
        if out % self.height == 0 and ins % self.width == 0:
            return None
        rows = torch.full((-(-out // self.height),), self.height)
        columns = torch.full((-(-ins // self.width),), self.width)
        rows[-1] = out - self.height * (len(rows) - 1)
        columns[-1] = ins - self.width * (len(columns) - 1)
        return torch.outer(rows, columns)

    def pool(self, scores: Tensor, gemm: Gemm) -> Tensor:
        from ...kernels.selection.block_scores import block_scores

        sums = block_scores(scores, self.height, self.width, power=0)
        sizes = self.sizes(gemm)
        return sums / (self.height * self.width if sizes is None else sizes.to(sums.device))

    def spread(self, units: Tensor, gemm: Gemm) -> Tensor:
        high, wide = units.shape
        # Along the short axis first, then whole rows: twice as fast as both at once.
        rows = units.unsqueeze(2).expand(high, wide, self.width).reshape(high, 1, -1)
        tiles = rows.expand(high, self.height, wide * self.width)
        whole = tiles.reshape(high * self.height, wide * self.width)
        return whole[: gemm.shape[0], : gemm.shape[1]].contiguous()
