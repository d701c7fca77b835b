"""What sparse training does between optimizer steps: the layers in CSR and how they evolve (S3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.formats.csr import CSR
from ...kernels.formats.entries import Entries
from ...kernels.growing.candidates import completed, costliest, largest
from ...kernels.growing.exchange import Pace, exchange
from ...kernels.growing.start import deviation
from ...kernels.modules.evolving import Evolving
from ..bitmasks import BitMask
from ..schedules.driver import Course, Driver
from ..schedules.sparse_training import SparseTraining
from .dead import Dead, Neurons
from .training import Trainer


class Evolution(Driver):
    """Steers the topology of the evolving `layers`, by path, of one training.

    `masks` are bit-packed and only to be shown: the layers hold no other weights.
    """

    schedule: SparseTraining

    def __init__(
        self,
        schedule: SparseTraining,
        course: Course,
        layers: Mapping[str, Evolving],
        trainer: Trainer,
        neurons: Neurons | None,
    ) -> None:
        super().__init__(schedule, course)
        self._layers = layers
        self._trainer = trainer
        self._neurons = neurons
        self._generator = torch.Generator().manual_seed(course.seed)
        self._thresholds = {
            path: schedule.threshold * deviation(layer.matrix.shape, len(layer.values))
            for path, layer in layers.items()
        }
        self._seen: dict[str, dict[str, Tensor]] = {}

    def masks(self, step: int) -> dict[str, BitMask] | None:  # type: ignore[override]
        if self.schedule.exchanges(step, self.course.steps):
            self._evolve(step)
        elif step != 0:
            return None
        return self.topology()

    def topology(self) -> dict[str, BitMask]:
        """The masks of now, by path."""
        return {path: BitMask.at(layer.matrix) for path, layer in self._layers.items()}

    def holds(self, step: int) -> bool:
        return False

    @contextmanager
    def watching(self, step: int) -> Iterator[None]:
        """See what the layers read, and the gradients by their outputs, if weights come next."""
        if not self.schedule.exchanges(step + 1, self.course.steps):
            yield
            return
        handles = [
            layer.register_forward_hook(self._watch(path)) for path, layer in self._layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _watch(self, path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            def back(grad: Tensor) -> None:
                self._seen[path] = {"x": given[0].detach(), "grad": grad.detach()}

            output.register_hook(back)

        return hook

    @torch.no_grad()
    def _evolve(self, step: int) -> None:
        dead = self._neurons.dead(self._layers, self._seen) if self._neurons is not None else {}
        for path, layer in self._layers.items():
            self._exchange(path, layer, step, dead.get(path))
        self._seen = {}

    def _exchange(self, path: str, layer: Evolving, step: int, dead: Dead | None) -> None:
        schedule, final = self.schedule, self.course.layers[path].sparsity
        sparsity = schedule.target(step, self.course.steps, final)
        assert sparsity is not None
        before = layer.matrix
        made = exchange(
            before,
            self._thresholds[path],
            Pace(schedule.share_at(step, self.course.steps), schedule.adjust),
            weights_at(sparsity, before.shape),
            lambda left, count: self._grown(path, layer, left, count, dead),
            dead.lost if dead is not None else None,
        )
        self._thresholds[path] = made.threshold
        layer.replace(made.evolved.matrix)
        self._trainer.carry(layer.values, len(before.values), made.evolved.carry)

    def _grown(
        self, path: str, layer: Evolving, left: CSR, count: int, dead: Dead | None
    ) -> Entries:
        """New weights: one step of gradient descent from zero, or zeros where chance chose."""
        found = None
        if self.schedule.growth != "random" and path in self._seen:
            x, grad = self._seen[path]["x"], self._seen[path]["grad"]
            rows = torch.arange(left.shape[0], device=grad.device)
            if self.schedule.growth == "gradient":
                rows = costliest(layer.costs(grad), left, count)
            closed = dead.closed if dead is not None else None

            def gradient(some: Tensor) -> Tensor:
                made = layer.gradient_rows(x, grad, some)
                return made if closed is None else made.masked_fill_(closed, 0)

            found = largest(left, count, gradient, rows)
            found = replace(found, values=found.values * -self._trainer.lr)
        if found is not None and len(found.values) == count:
            return found
        return completed(found, left, count, self._generator)

    def state(self) -> dict[str, Any]:
        return {
            "thresholds": self._thresholds,
            "seen": self._seen,
            "random": self._generator.get_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self._thresholds, self._seen = state["thresholds"], state["seen"]
        self._generator.set_state(state["random"])


def weights_at(sparsity: float, shape: tuple[int, int]) -> int:
    """How many weights [out, in] there are at a sparsity: the nearest number."""
    return shape[0] * shape[1] - round(sparsity * shape[0] * shape[1])
