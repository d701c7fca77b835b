"""From a plan and weights to masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..allocation import Share
from ..allocation.whole import choose_layers
from ..bitmasks import BitMask, PackedMasks
from ..calibration.passes import Calibration
from ..calibration.statistics import Collector
from ..masks import Masks
from ..models.model import Model
from ..patterns.nm import NM
from ..permute import Group, Orders
from ..plan import Plan, Rule
from .streaming import entry_scores, mask_of

Matrix = Callable[[str], Tensor]
_HALVINGS = 20


class Pruner:
    """Makes masks for the layers of `rules` from the weights that `matrix` gives by path.

    `calibration` is where criteria take their statistics from, None where no criterion needs data.
    `taken` are [out, in] masks of layers, with rules or without, that are False where a weight
    was zero already: it stays zero in every mask made here. `groups` are the layers whose input
    channels are put in an order; `orders` finds them.
    """

    def __init__(
        self,
        model: Model,
        plan: Plan,
        rules: dict[str, Rule],
        matrix: Matrix,
        calibration: Calibration | None = None,
        taken: Mapping[str, Tensor | BitMask] | None = None,
        groups: Mapping[str, Group] | None = None,
    ) -> None:
        self._info = model.info
        self._plan = plan
        self.rules = rules
        self._matrix = matrix
        self._taken = PackedMasks(taken or {}).packed
        self._vectors = _vectors(model, rules)
        self.orders = Orders(model.info, groups or {}, plan.seed)
        criteria = {path: rule.criterion for path, rule in rules.items()}
        self.statistics = Collector(model.info, criteria, calibration, matrix, plan.seed)

    def sparsities(self, asked: float | None = None) -> dict[str, float]:
        """The sparsity that each layer is to reach, by the plan's allocation.

        Rules ask for `asked` where it is given, otherwise for what they say. A layer that goes or
        stays as a whole has here the share of such layers that is to go.
        """
        rules = self.rules
        if asked is not None:
            rules = {path: replace(rule, sparsity=asked) for path, rule in rules.items()}
        free = {
            path: self._share(path, rule)
            for path, rule in rules.items()
            if rule.pattern.fixed_sparsity is None and not rule.pattern.whole
        }
        settled = {
            path: self._share(path, rule)
            for path, rule in self.rules.items()
            if rule.pattern.fixed_sparsity is not None
        }
        chosen = self._plan.allocation.allocate(free, settled)
        found = {path: chosen.get(path, rule.sparsity) for path, rule in rules.items()}
        return {path: max(sparsity, self._zeros(path)) for path, sparsity in found.items()}

    def decided(self, wanted: Mapping[str, float]) -> dict[str, float]:
        """`wanted`, with 1 or 0 for the layers that now go or stay as a whole."""
        whole = {
            path: replace(self._share(path, self.rules[path]), asked=sparsity)
            for path, sparsity in wanted.items()
            if self.rules[path].pattern.whole
        }
        others = any(layer.branch and layer.path not in whole for layer in self._info.prunable)
        return {**wanted, **choose_layers(whole, all_may_go=others)}

    def _share(self, path: str, rule: Rule) -> Share:
        layer, pattern = self._info.layer(path), rule.pattern
        gemm = layer.gemm
        assert gemm is not None

        def units() -> Tensor:
            return pattern.pool(self._scores(path), gemm)

        return Share(
            rule.sparsity,
            gemm,
            units,
            sizes=pattern.sizes(gemm),
            flops=layer.flops,
            format=pattern.format,
            rows=pattern.removes,
            itemsize=getattr(torch, layer.dtype).itemsize,
            run=pattern.m if isinstance(pattern, NM) else 0,
            entries=entry_scores(rule, self._matrix(path)),
        )

    def prune(self, path: str, sparsity: float) -> tuple[BitMask, Tensor | None]:
        """The [out, in] mask of one layer at `sparsity`, and its new W or None: as it was."""
        if path not in self._taken:
            return self._pruned(path, sparsity)
        taken = self._taken[path].to(self._matrix(path).device)
        wanted = max(sparsity, self._zeros(path)) * taken.numel

        def beside(share: float) -> tuple[float, BitMask]:
            mask = self._pruned(path, share)[0] & taken
            return abs(mask.numel - mask.kept - wanted), mask

        best = beside(sparsity)
        if best[0] < 1 or self.rules[path].pattern.fixed_sparsity is not None:
            return best[1], None
        # Zeros that lie beside what the pattern takes count too: it has to take less.
        low, high = 0.0, sparsity
        for _ in range(_HALVINGS):
            share = (low + high) / 2
            found = beside(share)
            best = min(best, found, key=lambda one: one[0])
            pruned = found[1].numel - found[1].kept
            low, high = (share, high) if pruned < wanted else (low, share)
        return best[1], None

    def within(self, path: str, sparsity: float, looser: Tensor) -> BitMask:
        """The [out, in] mask of one layer at `sparsity`, inside its bool mask `looser`."""
        gemm, pattern = self._info.layer(path).gemm, self.rules[path].pattern
        return BitMask.of(pattern.mask_within(self._scores(path), sparsity, looser, gemm))

    def _pruned(self, path: str, sparsity: float) -> tuple[BitMask, Tensor | None]:
        rule, gemm = self.rules[path], self._info.layer(path).gemm
        assert gemm is not None
        weight = self._matrix(path)
        scores = entry_scores(rule, weight)
        if scores is not None:
            return mask_of(rule, weight, scores, sparsity), None
        pattern = self.orders.pattern(path, self._scores) or rule.pattern
        statistics = self.statistics.of(path)
        mask, updated = rule.criterion.prune(weight, pattern, sparsity, gemm, statistics)
        return BitMask.of(mask), updated

    def _scores(self, path: str) -> Tensor:
        return self.rules[path].criterion.scores(self._matrix(path), self.statistics.of(path))

    def _zeros(self, path: str) -> float:
        """The share of the layer's weights that was taken over as zeros."""
        taken = self._taken.get(path)
        return 0.0 if taken is None else 1 - taken.density

    def with_vectors(self, layers: Mapping[str, Tensor | BitMask]) -> Masks:
        """Masks of layers, and of the biases and norms that go with removed outputs."""
        masks = Masks(layers, orders=dict(self.orders.found))
        for path, names in self._vectors.items():
            if path not in masks.layers:
                continue
            alive = masks.layers[path].any(dim=1)
            for name in names:
                # A norm behind two layers keeps an entry only where both have one.
                masks.vectors[name] = masks.vectors.get(name, alive) & alive
        return masks


def _vectors(model: Model, rules: dict[str, Rule]) -> dict[str, tuple[str, ...]]:
    removing = [path for path, rule in rules.items() if rule.pattern.removes]
    if not removing or model.module is None:
        return {}
    from ..dependencies import trace

    channels = trace(model)
    return {path: channels.vectors(path) for path in removing}
