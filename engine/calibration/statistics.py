"""Statistics of each layer as its criterion needs them, from as few passes as possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..criteria import Criterion, Statistics
from ..errors import BadInput
from ..info import ModelInfo
from ..plan import Plan
from .passes import Calibration

Found = dict[str, dict[str, Tensor]]
"""Tensors by statistic and layer path."""


class Collector:
    """Collects statistics for the layers in `criteria`, by path.

    Gradients and input norms of all layers with the same criterion settings come from one pass and
    are kept until `renew`; a Hessian is made for one layer at a time and not kept. `calibration` is
    None where no criterion needs data. `matrix` gives W[out, in] of the weights in use.
    """

    def __init__(
        self,
        info: ModelInfo,
        criteria: Mapping[str, Criterion],
        calibration: Calibration | None,
        matrix: Callable[[str], Tensor],
        seed: int = 0,
    ) -> None:
        self._layers = {layer.path: layer for layer in info.layers if layer.path in criteria}
        self._criteria, self._calibration = criteria, calibration
        self._matrix, self._seed = matrix, seed
        self._kept: dict[_Pass, Found] = {}

    @property
    def needs_data(self) -> bool:
        """Whether any layer's criterion takes calibration data."""
        return any(criterion.needs for criterion in self._criteria.values())

    @property
    def samples(self) -> int:
        """The most samples that any criterion takes; 0 where none needs data."""
        return max((getattr(c, "samples", 0) for c in self._criteria.values()), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes of the statistics that are kept."""
        return sum(
            tensor.nbytes
            for found in self._kept.values()
            for tensors in found.values()
            for tensor in tensors.values()
        )

    def samples_for(self, path: str) -> int:
        """The samples that the layer's criterion takes; 0 where it needs none."""
        return getattr(self._criteria[path], "samples", 0)

    def renew(self) -> None:
        """Forget what was collected: the weights have changed."""
        self._kept.clear()

    def of(self, path: str) -> Statistics:
        """What the layer's criterion needs, on the device of its weight.

        Raises BadInput for a layer that has no part in what the model computes.
        """
        criterion = self._criteria[path]
        if not criterion.needs:
            return Statistics(path, self._seed)
        assert self._calibration is not None
        key = _pass_of(criterion)
        if key not in self._kept:
            self._kept[key] = self._collect(key)
        found = {name: tensors.get(path) for name, tensors in self._kept[key].items()}
        if "hessian" in criterion.needs:
            found["hessian"] = self._calibration.hessian(self._layers[path], key.samples)
        here: dict[str, Tensor] = {}
        for name, tensor in found.items():
            if tensor is None:
                raise BadInput(
                    f"{path} has no part in what the model makes of the calibration data; leave "
                    "it out of the plan or give it a criterion that needs no data"
                )
            here[name] = tensor.to(self._matrix(path).device)
        return Statistics(path, self._seed, **here)

    def _collect(self, key: _Pass) -> Found:
        """One pass for all layers whose criteria ask for the same."""
        assert self._calibration is not None
        layers = [la for p, la in self._layers.items() if _pass_of(self._criteria[p]) == key]
        found: Found = {}
        if key.needs & {"gradient", "movement"}:
            gradients, steps = self._calibration.gradients(layers, key.samples)
            if "gradient" in key.needs:
                found["gradient"] = gradients
            if "movement" in key.needs:
                found["movement"] = {
                    path: self._matrix(path).float().to(g.device) * g * -steps
                    for path, g in gradients.items()
                }
        if "fisher" in key.needs:
            found["fisher"] = self._calibration.squares(layers, key.samples, key.batch)
        if "inputs" in key.needs:
            found["inputs"] = self._calibration.norms(layers, key.samples)
        return found


@dataclass(frozen=True)
class _Pass:
    """What one pass over the data collects; equal for criteria that can share it."""

    needs: frozenset[str]
    samples: int
    batch: int


def _pass_of(criterion: Criterion) -> _Pass:
    fields: Any = criterion
    batch = fields.batch if "fisher" in criterion.needs else 0
    samples = fields.samples if criterion.needs else 0
    return _Pass(criterion.needs - {"hessian"}, samples, batch)


def check_data(info: ModelInfo, plan: Plan, criteria: Mapping[str, Criterion]) -> None:
    """Raise BadInput if a criterion needs calibration data and neither plan nor model names any."""
    for criterion in criteria.values():
        named = (plan.training.data if plan.training else None) or info.data
        if criterion.needs and named is None:
            raise BadInput(
                f"criterion {criterion.kind} takes calibration data, and {info.name} brings none; "
                "add training: {data: …} to the plan or pass --data"
            )
