"""Wanda (Sun et al., A simple and effective pruning approach for large language models, 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..settings import setting
from .base import CRITERIA, NOTHING, Criterion, Statistics, samples

if TYPE_CHECKING:
    from torch import Tensor

    from ..info import LayerInfo
    from ..patterns import Pattern


@CRITERIA.register
@dataclass(frozen=True)
class Wanda(Criterion):
    """Weights that add little to their output go first: |w| times the norm of its input.

    A forward pass over calibration samples is all it needs.
    """

    kind: ClassVar[str] = "wanda"
    label: ClassVar[str] = "Wanda"
    rank: ClassVar[int] = 70
    needs: ClassVar[frozenset[str]] = frozenset({"inputs"})
    compare: str = setting(
        "layer",
        choices=("layer", "output"),
        help="layer compares all weights of the layer; output ranks the weights of each output "
        "among themselves, as the publication does for language models, so that single weights go "
        "from all outputs alike.",
    )
    samples: int = samples()

    def misfit(self, layer: LayerInfo, pattern: Pattern | None = None) -> str | None:
        outputs = pattern is not None and layer.gemm and pattern.whole_outputs(layer.gemm)
        if pattern is not None and outputs and self.compare == "output":
            return (
                f"loses whole outputs with {pattern.label}, and {self.label} with compare: output "
                "ranks weights within each output only, so that all outputs score alike; "
                "compare: layer would fit"
            )
        return super().misfit(layer, pattern)

    def scores(self, weight: Tensor, statistics: Statistics = NOTHING) -> Tensor:
        import torch

        norms = statistics.required("inputs")
        out, ins = weight.shape
        size = weight.detach().float().abs().view(len(norms), -1, ins)
        scores = (size * norms.unsqueeze(1)).view(out, ins)
        if self.compare == "layer":
            return scores
        order = scores.argsort(dim=1, stable=True)
        places = torch.arange(1, ins + 1, device=weight.device, dtype=torch.float32) / ins
        return torch.empty_like(scores).scatter_(1, order, places.expand(out, ins))
