"""Learned N:M masks by Gumbel-softmax over frozen weights (S2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

from ..info import LayerInfo
from ..patterns import Pattern
from ..settings import setting
from .base import SCHEDULES, Schedule
from .driver import Course, Driver, Matrices
from .learned import Learner

if TYPE_CHECKING:
    from torch import Tensor

    from .driver import Layer

_MOST_CHOICES = 1000


@SCHEDULES.register
@dataclass(frozen=True)
class Gumbel(Schedule):
    """Every run of M learns which of the C(M, N) patterns it keeps; the weights stay bit for bit.

    A run's choice is a categorical variable, relaxed by Gumbel noise and a softmax whose
    temperature falls. At the end each run takes its most likely pattern. Only for N:M; the rule's
    criterion is not used.
    """

    kind: ClassVar[str] = "gumbel"
    label: ClassVar[str] = "Learned N:M (Gumbel)"
    rank: ClassVar[int] = 90
    trains: ClassVar[bool] = True
    frozen: ClassVar[bool] = True
    start: str = setting(
        "magnitude",
        choices=("magnitude", "random"),
        label="First choices",
        help="First choices: what magnitude would keep is more likely, or by chance.",
    )
    hot: float = setting(
        2.0, low=0.01, high=100.0, label="Temperature from", help="Temperature at the beginning."
    )
    cold: float = setting(
        0.1, low=0.01, high=100.0, label="Temperature to", help="Temperature at the end."
    )
    rate: float = setting(
        0.2,
        low=1e-9,
        high=10.0,
        label="Rate of choices",
        help="Learning rate of the choices, by Adam.",
    )
    every: int = setting(25, low=1, help="Steps between two pictures of the masks.")

    def last_step(self, total: int) -> int:
        return total

    @property
    def course_words(self) -> str:
        return "learned throughout, cut at the end"

    def misfit(self, layer: LayerInfo, pattern: Pattern) -> str | None:
        n, m = getattr(pattern, "n", None), getattr(pattern, "m", None)
        if n is None or m is None:
            return f"has pattern {pattern.label}, and gumbel learns N:M masks; nm:2:4 would fit"
        if getattr(pattern, "permute", False):
            return "cannot learn its masks in another order; set permute to false"
        if math.comb(m, n) > _MOST_CHOICES:
            return (
                f"would choose among {math.comb(m, n)} patterns in each run of {m}, more than the "
                f"{_MOST_CHOICES} that gumbel learns; nm:2:4 or nm:4:8 would fit"
            )
        return None

    def driver(self, course: Course) -> Driver:
        return _Choices(self, course)


class _Choices(Learner):
    """`values` are the choices, float32 [runs, C(M, N)], by path."""

    schedule: Gumbel

    def __init__(self, schedule: Gumbel, course: Course) -> None:
        import torch

        super().__init__(schedule, course)
        self._generator = torch.Generator().manual_seed(course.seed)
        self._temperature = schedule.hot

    def first(self, path: str) -> Tensor:
        import torch

        layer = self.course.layers[path]
        runs = _runs(self.course.matrix(path).float().abs(), layer)
        table = _table(layer, runs.device)
        if self.schedule.start == "magnitude":
            kept = runs @ table.T
            # In units of a typical difference between patterns, so that none is certain yet.
            return kept / kept.std().clamp_min(1e-30)
        return torch.randn((len(runs), len(table)), generator=self._generator).to(runs.device)

    def masks(self, step: int) -> Matrices | None:
        done = min(1.0, step / max(1, self.end))
        self._temperature = self.schedule.hot * (self.schedule.cold / self.schedule.hot) ** done
        if step != self.end and step % self.schedule.every:
            return None
        masks = {path: self._chosen(path) > 0 for path in self.values}
        if step == self.end:
            self.values = {}
        return masks

    def _chosen(self, path: str) -> Tensor:
        """The most likely pattern of every run, float32 0 or 1 [out, in]."""
        layer, choices = self.course.layers[path], self.values[path].detach()
        return _matrix(_table(layer, choices.device)[choices.argmax(dim=1)], layer)

    def weights(self, *, training: bool) -> Matrices:
        import torch

        found = {}
        for path, choices in self.values.items():
            layer = self.course.layers[path]
            weight = self.course.matrix(path)
            if not training:
                found[path] = weight * self._chosen(path)
                continue
            # Drawn on the CPU, so that every device sees the same noise.
            uniform = torch.rand(choices.shape, generator=self._generator).clamp_(1e-9, 1 - 1e-7)
            noise = -torch.log(-torch.log(uniform)).to(choices.device)
            shares = torch.softmax((choices + noise) / self._temperature, dim=1)
            found[path] = weight * _matrix(shares @ _table(layer, choices.device), layer)
        return found

    def numbers(self) -> dict[str, float]:
        return {"temperature": self._temperature} if self.values else {}

    def state(self) -> dict[str, Any]:
        return super().state() | {"random": self._generator.get_state()}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self._generator.set_state(state["random"])


def _table(layer: Layer, device: Any) -> Tensor:
    """All patterns of a run, float32 [C(M, N), M]."""
    import torch

    n, m = layer.pattern.n, layer.pattern.m  # type: ignore[attr-defined]  # see `Gumbel.misfit`
    rows = [[float(place in kept) for place in range(m)] for kept in combinations(range(m), n)]
    return torch.tensor(rows, device=device)


def _lanes(layer: Layer) -> tuple[int, int]:
    """Rows and length of the lines that runs lie in: of W, or of one kernel position."""
    out, ins = layer.gemm.shape
    if getattr(layer.pattern, "order", "flattened") == "channel":
        return out * layer.gemm.taps, layer.gemm.channels
    return out, ins


def _runs(matrix: Tensor, layer: Layer) -> Tensor:
    """A [out, in] matrix as runs [count, M], padded with zeros at the ends of lines."""
    from torch.nn import functional as F

    rows, length = _lanes(layer)
    m = layer.pattern.m  # type: ignore[attr-defined]
    if rows != layer.gemm.shape[0]:
        split = matrix.reshape(layer.gemm.shape[0], layer.gemm.channels, layer.gemm.taps)
        matrix = split.transpose(1, 2)
    return F.pad(matrix.reshape(rows, length), (0, -length % m)).reshape(-1, m)


def _matrix(runs: Tensor, layer: Layer) -> Tensor:
    """Inverse of `_runs`, differentiable."""
    rows, length = _lanes(layer)
    lines = runs.reshape(rows, -1)[:, :length]
    if rows == layer.gemm.shape[0]:
        return lines
    split = lines.reshape(layer.gemm.shape[0], layer.gemm.taps, layer.gemm.channels)
    return split.transpose(1, 2).reshape(layer.gemm.shape)
