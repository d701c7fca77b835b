"""What a pruning run came to: per layer and for the whole model. Torch-free."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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
class Report:
    """A run's result. Zeros, bytes and measured time stay apart; none stands in for another.

    `params` counts all parameters, `nonzeros` those that are not zero under the masks. Accuracies
    are fractions, None without data. `dense_bytes` is what the tensors take as they are,
    `compressed_bytes` what the compressed export's tensors take. `steps` counts optimizer steps.
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

    @property
    def sparsity(self) -> float:
        """Zeros among all weights of the pruned layers."""
        weights = sum(layer.weights for layer in self.layers)
        return sum(layer.zeros for layer in self.layers) / weights if weights else 0.0

    def to_json(self) -> dict[str, Any]:
        """The report as it is saved and as ``prune --json`` prints it."""
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
        }
