"""Statistics for previews: collected at the first question, where that takes a moment only."""

from __future__ import annotations

from ..calibration.passes import Calibration, sharing
from ..calibration.statistics import Collector
from ..criteria import Criterion, Statistics
from ..data import load_data, only_reads
from ..data.evaluate import check_fits
from ..models.model import Model
from .cache import ByteCache
from .preview import Context, NotYet

_MOST_FLOPS = 1e11
"""What may be computed before an answer, so that it comes within a second or two."""
_USES = 64
"""How often each weight is assumed to be used on a sample where that is not known."""


class PreviewStatistics:
    """Statistics of an opened model's layers, over the weights as loaded.

    The first question about a criterion collects for all layers; the rest is looked up.
    """

    def __init__(self, model: Model, cache: ByteCache) -> None:
        self._model = model
        self._cache = cache

    def of(self, layer: str, criterion: Criterion, context: Context) -> Statistics:
        """What `criterion` needs of `layer`; raises NotYet where only a run can tell."""
        if not criterion.needs:
            return Statistics(layer, context.seed)
        if criterion.updates_weights:
            raise NotYet(
                "is scored when its turn comes, by what the layers before it then give; "
                "its mask appears after the run"
            )
        key = ("", "statistics", criterion, context)
        collector = self._cache.get(key)
        if collector is None:
            collector = self._collector(criterion, context)
        found: Statistics = collector.of(layer)
        self._cache.put(key, collector, collector.nbytes)
        return found

    def _collector(self, criterion: Criterion, context: Context) -> Collector:
        model, module = self._model, self._model.module
        address = context.data or model.info.data
        if module is None:
            raise NotYet(
                f"is scored by {criterion.label} on data, which cannot pass through weights alone; "
                "open them with their architecture"
            )
        if address is None:
            raise NotYet(
                f"is scored by {criterion.label} on calibration data, and the model brings none; "
                "name some for its retraining"
            )
        if not only_reads(address):
            raise NotYet(
                f"is scored by {criterion.label} on {address}, which only a run may load; "
                "its mask appears after the run"
            )
        layers = [layer for layer in model.info.prunable if criterion.misfit(layer) is None]
        criteria = {layer.path: criterion for layer in layers}
        data = load_data(address, model)
        check_fits(sharing(module, model.state).cpu(), data)
        calibration = Calibration(module, data, state=model.state, seed=context.seed)
        made = Collector(model.info, criteria, calibration, model.matrix, context.seed)
        uses = [la.flops or 2 * la.params * _USES for la in model.info.layers if la.gemm]
        passes = 1 if criterion.needs == {"inputs"} else 3  # forward, and back twice as much
        if sum(uses) * passes * made.samples > _MOST_FLOPS:
            raise NotYet(
                f"is scored by {criterion.label} on {made.samples} samples, which takes longer "
                "than a preview may; its mask appears after the run"
            )
        return made
