"""What a pruning run came to: per layer and for the whole model. Torch-free."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..levels import SharedBytes


@dataclass(frozen=True)
class LayerReport:
    """One pruned layer: the sparsity asked for and reached, and its counts of weights."""

    path: str
    pattern: str
    requested: float
    achieved: float
    weights: int
    zeros: int


@dataclass(frozen=True)
class LevelReport:
    """One of several nested levels: the sparsity asked for, and what it came to.

    `achieved` is the share of zeros in the pruned layers, `layers` are requested and achieved
    sparsity by path. `nonzeros`, `accuracy` and `bytes` are of the whole model at this level alone,
    as in `Report`.
    """

    sparsity: float
    achieved: float
    nonzeros: int
    accuracy: float | None
    bytes: int
    layers: dict[str, tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        layers = [
            {"path": path, "requested": asked, "achieved": got}
            for path, (asked, got) in self.layers.items()
        ]
        return {**vars(self), "layers": layers}


@dataclass(frozen=True)
class Report:
    """A run's result. Zeros, bytes and measured time stay apart; none stands in for another.

    `params` counts all parameters, `nonzeros` those that are not zero under the masks. Accuracies
    are fractions, None without data. `dense_bytes` is what the tensors take as they are,
    `compressed_bytes` what the compressed export's tensors take. `steps` counts optimizer steps.
    `history` is the training's: (step, values) at each measurement, as Metric events say them.

    With nested masks all else is of the loosest level; `levels` has them all, and `shared` is what
    one file with all of them takes.
    """

    model: str
    name: str
    digest: str
    layers: tuple[LayerReport, ...]
    params: int
    nonzeros: int
    dense_bytes: int
    compressed_bytes: int
    accuracy_dense: float | None
    accuracy_pruned: float | None
    steps: int
    seconds: float
    machine: dict[str, Any]
    plan: dict[str, Any]
    notes: tuple[str, ...] = ()
    history: tuple[tuple[int, dict[str, float]], ...] = ()
    levels: tuple[LevelReport, ...] = ()
    shared: SharedBytes | None = None

    @property
    def sparsity(self) -> float:
        """Zeros among all weights of the pruned layers."""
        weights = sum(layer.weights for layer in self.layers)
        return sum(layer.zeros for layer in self.layers) / weights if weights else 0.0

    def to_json(self) -> dict[str, Any]:
        """The report as it is saved and as ``prune --json`` prints it."""
        nested: dict[str, Any] = {}
        if self.shared is not None:
            nested["levels"] = [level.to_json() for level in self.levels]
            nested["shared"] = self.shared.to_json()
        return {
            "model": self.model,
            "name": self.name,
            "hash": self.digest,
            "layers": [asdict(layer) for layer in self.layers],
            "params": self.params,
            "nonzeros": self.nonzeros,
            "sparsity": self.sparsity,
            "bytes": {"dense": self.dense_bytes, "compressed": self.compressed_bytes},
            "accuracy": {"dense": self.accuracy_dense, "pruned": self.accuracy_pruned},
            "steps": self.steps,
            "seconds": self.seconds,
            "machine": self.machine,
            "plan": self.plan,
            "notes": list(self.notes),
            "history": [{"step": step, **values} for step, values in self.history],
            **nested,
        }
