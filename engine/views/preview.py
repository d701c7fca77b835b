"""What a rule would do to one layer: its mask and the numbers beside it, fast enough for a slider.

Scores are kept per criterion and ranked units per pattern, so that another sparsity costs one pass
over the scores. The mask is the very one that ``pattern.mask`` gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...kernels.selection.select import Ranking, SizedRanking
from ..criteria import Criterion, Statistics
from ..gemm import Gemm
from ..info import LayerInfo
from ..patterns import Pattern
from ..plan import Rule
from .cache import ByteCache

_ENTRIES_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Context:
    """What a plan says beside its rules that scores depend on: `seed`, and `data` by address.

    Without `data` the model's own are used.
    """

    seed: int = 0
    data: str | None = None


DEFAULT = Context()

Statistician = Callable[[str, Criterion, Context], Statistics]
"""Gives the statistics of a layer, or raises `NotYet`."""


class NotYet(Exception):
    """There are no scores before a run; the message says why, in words after a layer's path."""


@dataclass(frozen=True)
class Preview:
    """A mask of one layer and its summary.

    `kept` is bool [out, in], or None where every entry is kept. `achieved` is the share of entries
    pruned, `energy` the share of the sum of squared weights that is kept. Of `units` units of the
    pattern `kept_units` are kept; `unit` names one. `misfit` says, in words that follow the layer's
    path, why the rule cannot hold on the layer, `waits` why its mask is known only after a run;
    then nothing is pruned.
    """

    kept: np.ndarray | None = field(repr=False)
    achieved: float
    energy: float
    kept_units: int
    units: int
    unit: str
    misfit: str | None = None
    waits: str | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the mask."""
        return 0 if self.kept is None else int(self.kept.nbytes)

    def summary(self) -> dict[str, Any]:
        """The numbers as plain values."""
        return {
            "achieved": self.achieved,
            "energy": self.energy,
            "kept_units": self.kept_units,
            "units": self.units,
            "unit": self.unit,
            "misfit": self.misfit,
            "waits": self.waits,
        }


class Previews:
    """Makes previews of rules on layers. `matrix(layer)` gives float32 [out, in] on the CPU.

    `statistics` gives what criteria need beside the weight.
    """

    def __init__(
        self,
        matrix: Callable[[str], np.ndarray],
        statistics: Statistician,
        cache: ByteCache,
    ) -> None:
        self._matrix = matrix
        self._statistics = statistics
        self._cache = cache

    def of(self, info: LayerInfo, gemm: Gemm, rule: Rule, context: Context) -> Preview:
        """What `rule` would do to the layer. The last answer for each layer is kept."""
        layer = info.path
        last = self._cache.get((layer, "preview"))
        wanted = (rule.pattern, rule.criterion, rule.sparsity, context)
        if last is not None and last[0] == wanted:
            found: Preview = last[1]
            return found
        preview = self._make(info, gemm, rule, context)
        self._cache.put((layer, "preview"), (wanted, preview), preview.nbytes)
        return preview

    def given(self, mask: Tensor, matrix: np.ndarray) -> Preview:
        """The summary of a mask that is there already, counted in weights."""
        kept = mask.cpu().numpy()
        count = int(np.count_nonzero(kept))
        whole = energy_of(matrix)
        energy = energy_of(matrix, kept) / whole if whole else 1.0
        return Preview(kept, 1 - count / kept.size, energy, count, kept.size, "weight")

    def _make(self, info: LayerInfo, gemm: Gemm, rule: Rule, context: Context) -> Preview:
        layer, pattern, matrix = info.path, rule.pattern, self._matrix(info.path)
        misfit = pattern.misfit(info) or rule.criterion.misfit(info, pattern)
        dense = rule.sparsity == 0 and pattern.fixed_sparsity is None and pattern.unit == "weight"
        if misfit is not None or dense:
            return Preview(None, 0.0, 1.0, matrix.size, matrix.size, "weight", misfit)
        if pattern.whole:
            waits = "goes or stays as a whole; which layers of the plan go shows after the run"
            return Preview(None, 0.0, 1.0, 1, 1, pattern.unit, waits=waits)
        try:
            scores = self._scores(layer, rule.criterion, context)
        except NotYet as reason:
            return Preview(None, 0.0, 1.0, matrix.size, matrix.size, "weight", waits=str(reason))
        if type(pattern).mask is Pattern.mask:
            units = self._kept_units(layer, gemm, rule, context, scores)
            mask = pattern.spread(units, gemm)
        else:
            mask = pattern.mask(scores, rule.sparsity, gemm)
            # A pattern with a choice of its own is counted by what its mask leaves of each unit.
            units = mask if pattern.unit == "weight" else pattern.pool(mask.float(), gemm) > 0
        kept = mask.numpy()
        left = int(np.count_nonzero(kept))
        kept_units = left if units is mask else int(np.count_nonzero(units.numpy()))
        whole = self._cache.fetch((layer, "energy"), lambda: energy_of(matrix), lambda _: 0)
        energy = energy_of(matrix, kept) / whole if whole else 1.0
        achieved = 1 - left / kept.size
        return Preview(kept, achieved, energy, kept_units, units.numel(), pattern.unit)

    def _scores(self, layer: str, criterion: Criterion, context: Context) -> Tensor:
        def make() -> Tensor:
            statistics = self._statistics(layer, criterion, context)
            return criterion.scores(torch.from_numpy(self._matrix(layer)), statistics).float()

        return self._cache.fetch(
            (layer, "scores", criterion, context), make, lambda scores: scores.nbytes
        )

    def _kept_units(
        self, layer: str, gemm: Gemm, rule: Rule, context: Context, scores: Tensor
    ) -> Tensor:
        """`Pattern.mask` up to its last step, on units that were ranked before."""
        pattern = rule.pattern
        sizes = pattern.sizes(gemm)
        key = (layer, "units", rule.criterion, context, pattern)
        if sizes is None:
            ranking = self._cache.fetch(
                key, lambda: Ranking(pattern.pool(scores, gemm)), lambda made: made.nbytes
            )
            pruned = ranking.lowest(pattern.going(rule.sparsity, ranking.count))
        else:
            sized = self._cache.fetch(
                key,
                lambda: SizedRanking(pattern.pool(scores, gemm), sizes),
                lambda made: made.nbytes,
            )
            pruned = sized.lowest(pattern.going_entries(rule.sparsity, sizes))
        return pruned.logical_not_()


def energy_of(matrix: np.ndarray, kept: np.ndarray | None = None) -> float:
    """Sum of squares of `matrix` [out, in], of the entries under the bool mask `kept` if given."""
    total = 0.0
    rows = max(1, _ENTRIES_AT_ONCE // matrix.shape[1])
    for start in range(0, len(matrix), rows):
        part = matrix[start : start + rows]
        if kept is not None:
            part = np.multiply(part, kept[start : start + rows])
        flat = part.ravel()
        total += float(np.dot(flat, flat))
    return total
