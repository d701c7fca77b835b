"""Checkpoints: what a run needs to go on to the same bits after a crash or a cancel."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import BadInput
from ..files import replacing
from ..models.model import Model
from ..plan import Plan
from ..project import check_folder, check_same_run

CHECKPOINT = "checkpoint.pt"
"""Name of a checkpoint's file in a project's folder."""

# Of what a checkpoint holds: one of another version is of another run.
_VERSION = 2


@dataclass
class Checkpoint:
    """A run after `step` optimizer steps.

    `key` ties it to its plan and weights. `module` is a state dict, `optimizer` and `driver` are
    what the trainer and the schedule's driver need to go on, `layers` the bool masks by path,
    `random` torch's generator state, `metrics` what was said so far, `orders` the orders of input
    channels that were found, `changes` the number of the masks' last change, `model` the address,
    `seconds` how long the run has taken so far.
    """

    key: str
    step: int
    module: dict[str, Any]
    optimizer: dict[str, Any]
    driver: dict[str, Any]
    layers: dict[str, Any]
    random: Any
    metrics: list[tuple[int, dict[str, float]]]
    orders: dict[str, Any] = field(default_factory=dict)
    changes: int = -1
    model: str = ""
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write to `path`; the checkpoint before it survives a failure."""
        with replacing(path) as temporary:
            torch.save(_fields(self), temporary)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read without running code; raises BadInput for a damaged file."""
        try:
            return cls(**torch.load(path, map_location="cpu", weights_only=True))
        except (pickle.UnpicklingError, RuntimeError, EOFError, TypeError, OSError) as error:
            reason = str(error).split("\n")[0].split(". ")[0] or "it is empty or cut off"
            raise BadInput(
                f"{path}: the checkpoint cannot be read ({reason}); delete it to start anew"
            ) from None

    @classmethod
    def of_run(cls, path: Path, key: str) -> Checkpoint | None:
        """The checkpoint of the run with this key; None if there is no file.

        Raises BadInput for that of another run, which would be lost, and as `load` does.
        """
        if not path.exists():
            return None
        saved = cls.load(path)
        if saved.key != key:
            whose = f" of {saved.model}" if saved.model else ""
            raise BadInput(
                f"{path} is of another unfinished run{whose}, at step {saved.step}, with another "
                "model or plan; name another folder, or lose that run: delete the file, or replace "
                "it with --restart"
            )
        return saved


def _fields(checkpoint: Checkpoint) -> dict[str, Any]:
    """The fields by name, without copying tensors."""
    return {name: getattr(checkpoint, name) for name in checkpoint.__dataclass_fields__}


def run_key(plan: Plan, digest: str) -> str:
    """Names a run: the same plan on the same weights."""
    text = json.dumps(plan.to_json(), sort_keys=True)
    return hashlib.sha256(f"{_VERSION} {digest} {text}".encode()).hexdigest()


def check_free(folder: Path, model: Model, plan: Plan) -> None:
    """Raise BadInput where a run of `plan` on `model` in `folder` would lose something of another.

    A run of this plan on this model that was stopped there goes on.
    """
    check_folder(folder)
    path = folder / CHECKPOINT
    # To name the run the weights are read: not where there is nothing to compare with.
    if not path.exists() or Checkpoint.of_run(path, run_key(plan, model.digest())) is None:
        check_same_run(folder, model, plan)
