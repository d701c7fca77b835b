"""From a plan and weights to masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from .allocation import Share
from .calibration.passes import Calibration
from .calibration.statistics import Collector
from .errors import BadInput, nearest
from .masks import Masks
from .models.model import Model
from .plan import Plan, Rule

Matrix = Callable[[str], Tensor]


def assign(model: Model, plan: Plan) -> dict[str, Rule]:
    """The rule of each layer that the plan prunes, by path, in model order.

    Raises BadInput for a rule that matches nothing or does not fit one of its layers.
    """
    info = model.info
    if not info.prunable:
        raise BadInput(f"{info.name} has no layer that can be pruned")
    for rule in plan.rules:
        if any(rule.matches(layer.path) for layer in info.prunable):
            continue
        for layer in info.layers:
            if rule.layers == layer.path:
                raise BadInput(f"{layer.path} cannot be pruned: {layer.reason}")
        hint = nearest(rule.layers, [layer.path for layer in info.prunable[:200]])
        hint = hint if "mean" in hint else f"; a layer is {info.prunable[0].path}"
        raise BadInput(f"no prunable layer matches '{rule.layers}'{hint}")
    rules = {}
    for layer in info.prunable:
        rule = plan.rule_for(layer.path)  # type: ignore[assignment]
        if rule is None or rule.sparsity == 0:
            continue
        assert layer.gemm is not None
        misfit = rule.pattern.misfit(layer.gemm) or rule.criterion.misfit(layer, rule.pattern)
        if misfit:
            raise BadInput(f"{layer.path} {misfit}")
        rules[layer.path] = rule
    if not rules:
        raise BadInput("the plan prunes no layer; give it a rule with a sparsity above 0")
    return rules


def check_finite(model: Model, paths: Iterable[str]) -> None:
    """Raise BadInput for the first layer whose weights hold NaN or infinity."""
    for path in paths:
        weight = model.weight(path)
        bad = weight.numel() - int(torch.isfinite(weight).sum())
        if bad:
            raise BadInput(
                f"{path} has {bad} weights that are NaN or infinite; repair the model or leave "
                "this layer out of the plan"
            )


class Pruner:
    """Makes masks for the layers of `rules` from the weights that `matrix` gives by path.

    `calibration` is where criteria take their statistics from, None where no criterion needs data.
    """

    def __init__(
        self,
        model: Model,
        plan: Plan,
        rules: dict[str, Rule],
        matrix: Matrix,
        calibration: Calibration | None = None,
    ) -> None:
        self._info = model.info
        self._plan = plan
        self._rules = rules
        self._matrix = matrix
        self._vectors = _vectors(model, rules)
        criteria = {path: rule.criterion for path, rule in rules.items()}
        self.statistics = Collector(model.info, criteria, calibration, matrix, plan.seed)

    def sparsities(self) -> dict[str, float]:
        """The sparsity that each layer is to reach, by the plan's allocation."""
        free = {p: r for p, r in self._rules.items() if r.pattern.fixed_sparsity is None}
        shares = {path: self._share(path, rule) for path, rule in free.items()}
        chosen = self._plan.allocation.allocate(shares)
        return {path: chosen.get(path, rule.sparsity) for path, rule in self._rules.items()}

    def _share(self, path: str, rule: Rule) -> Share:
        layer = self._info.layer(path)
        gemm = layer.gemm
        assert gemm is not None

        def units() -> Tensor:
            scores = rule.criterion.scores(self._matrix(path), self.statistics.of(path))
            return rule.pattern.pool(scores, gemm)

        return Share(rule.sparsity, gemm, units, rule.pattern.sizes(gemm), layer.flops)

    def prune(self, path: str, sparsity: float) -> tuple[Tensor, Tensor | None]:
        """The bool [out, in] mask of one layer at `sparsity`, and its new W or None: as it was."""
        rule, gemm = self._rules[path], self._info.layer(path).gemm
        assert gemm is not None
        weight, statistics = self._matrix(path), self.statistics.of(path)
        return rule.criterion.prune(weight, rule.pattern, sparsity, gemm, statistics)

    def with_vectors(self, layers: dict[str, Tensor]) -> Masks:
        """Masks of layers, and of the biases and norms that go with removed outputs."""
        vectors: dict[str, Tensor] = {}
        for path, names in self._vectors.items():
            alive = layers[path].any(dim=1)
            for name in names:
                # A norm behind two layers keeps an entry only where both have one.
                vectors[name] = vectors.get(name, alive) & alive
        return Masks(layers, vectors)


def _vectors(model: Model, rules: dict[str, Rule]) -> dict[str, tuple[str, ...]]:
    removing = [path for path, rule in rules.items() if rule.pattern.removes]
    if not removing or model.module is None:
        return {}
    from .dependencies import trace

    channels = trace(model)
    return {path: channels.vectors(path) for path in removing}
