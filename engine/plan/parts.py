"""The parts of a plan: a rule for layers, and how the model is retrained. Frozen, torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..criteria import Criterion
from ..errors import BadInput
from ..patterns import Pattern
from ..settings import Field, coerce, fields_of, setting


@dataclass(frozen=True)
class Rule:
    """How the layers that match `layers` are pruned.

    `layers` is a glob over the whole path, in which ``*`` also crosses dots. `sparsity` is the
    share of entries to prune in [0, 1); for N:M it is N and M that say it. With `skip_misfits`
    layers that the pattern or the criterion does not fit stay dense, where otherwise the plan is
    refused.
    """

    layers: str
    pattern: Pattern
    criterion: Criterion
    sparsity: float
    skip_misfits: bool = setting(
        False,
        help="Leave layers dense that the rule does not fit, instead of refusing the plan.",
    )

    def __post_init__(self) -> None:
        fixed = self.pattern.fixed_sparsity
        if not 0 <= self.sparsity < 1:
            raise BadInput(f"sparsity must be at least 0 and below 1, not {self.sparsity:g}")
        if fixed is not None and abs(self.sparsity - fixed) > 5e-3:
            word = self.pattern.to_plan()
            raise BadInput(f"{word} has sparsity {fixed:g}, not {self.sparsity:g}; leave it out")

    def to_json(self) -> dict[str, Any]:
        """The rule as a plan file writes it; N:M needs no sparsity."""
        data: dict[str, Any] = {"layers": self.layers, "pattern": self.pattern.to_plan()}
        data["criterion"] = self.criterion.to_plan()
        if self.pattern.fixed_sparsity is None:
            data["sparsity"] = self.sparsity
        if self.skip_misfits:
            data["skip_misfits"] = True
        return data

    def matches(self, path: str) -> bool:
        """Whether the rule's glob matches a layer's whole path."""
        return path == self.layers or fnmatchcase(path, self.layers)


@dataclass(frozen=True)
class Training:
    """How a model is retrained under its masks, and on which data."""

    data: str | None = setting(None, help="Address of the data; empty: the model's own.")
    epochs: int = setting(20, low=0, high=100000, help="Passes over the training data.")
    optimizer: str = setting("sgd", choices=("sgd", "adamw"), help="Update rule.")
    loss: str = setting(
        "cross_entropy",
        choices=("cross_entropy", "mse"),
        help="What is made small: the cross-entropy of the scores, or the mean squared error of "
        "their sigmoids against 0 and 1, which learns best with adamw, 0.01 and onecycle.",
    )
    lr: float = setting(0.02, low=0.0, high=100.0, label="Learning rate", help="Learning rate.")
    decay: str = setting(
        "late",
        choices=("late", "cosine", "step", "onecycle", "constant"),
        help="Course of the learning rate: late holds it for three quarters, while masks still "
        "change, and then falls to zero; cosine falls from the start; step falls to a tenth at a "
        "half and at three quarters; onecycle rises first.",
    )
    momentum: float = setting(0.9, low=0.0, high=0.9999, help="Momentum of sgd.")
    weight_decay: float = setting(0.0, low=0.0, high=10.0, help="Weight decay.")
    batch: int = setting(64, low=1, high=1_000_000, help="Samples in one step.")
    distil: bool = setting(
        False, label="Distil from the dense model", help="Learn from the dense model's outputs too."
    )
    clip: float = setting(
        0.0,
        low=0.0,
        high=1e6,
        label="Gradient limit",
        help="Largest norm of all gradients together; 0: no limit.",
    )
    precision: str = setting(
        "full", choices=("full", "mixed"), help="Mixed computes in bfloat16 where that is safe."
    )
    within: float = setting(
        0.0,
        low=0.0,
        high=1.0,
        label="Stop within",
        help="Stop early once the final masks lose no more accuracy than this; 0: never.",
    )

    def __post_init__(self) -> None:
        for each in training_fields():
            value = coerce(getattr(self, each.name), each, "training")
            object.__setattr__(self, each.name, value)


def training_fields() -> tuple[Field, ...]:
    """The settings of `Training` as a form shows them."""
    return fields_of(Training)
