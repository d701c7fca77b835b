"""What a job says while it runs. Frozen, torch-free, and the same in a notebook and on the wire."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

Json = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """Base of all events. `terminal` events end a job: exactly one of them comes, last."""

    kind: ClassVar[str] = ""
    terminal: ClassVar[bool] = False

    def to_json(self) -> Json:
        """A mapping of plain values with the event's kind."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Started(Event):
    """A job begins. `title` is what the person sees; `total` the number of steps, 0 if unknown."""

    kind: ClassVar[str] = "started"
    title: str
    total: int = 0


@dataclass(frozen=True)
class Progress(Event):
    """`done` of `total` steps; `text` says at what; `seconds_left` is None while unknown."""

    kind: ClassVar[str] = "progress"
    done: int
    total: int
    text: str = ""
    seconds_left: float | None = None


@dataclass(frozen=True)
class LayerDone(Event):
    """A layer has its mask (prune) or its figures (measure, verify), in `values`.

    Prune gives ``requested`` and ``achieved`` sparsity; measure one cell of its table.
    """

    kind: ClassVar[str] = "layer"
    path: str
    values: Json


@dataclass(frozen=True)
class Metric(Event):
    """Numbers of a training run at a step: ``loss``, ``accuracy``, ``sparsity``.

    `past`: measured before the run was resumed.
    """

    kind: ClassVar[str] = "metric"
    step: int
    values: dict[str, float]
    past: bool = False


@dataclass(frozen=True)
class MaskChanged(Event):
    """Masks were set anew at `step`. `sparsity` is achieved sparsity by layer path."""

    kind: ClassVar[str] = "masks"
    step: int
    sparsity: dict[str, float]
    dropped: int = 0
    regrown: int = 0


@dataclass(frozen=True)
class Log(Event):
    """A line for the log. `level` is ``info`` or ``warning``."""

    kind: ClassVar[str] = "log"
    text: str
    level: str = "info"


@dataclass(frozen=True)
class Failed(Event):
    """The job ended with an error. `bad_input` says that it was the input, not a fault of ours.

    `consent` says that the person may agree to run a file's code and try again.
    """

    kind: ClassVar[str] = "failed"
    terminal: ClassVar[bool] = True
    message: str
    detail: str = ""
    bad_input: bool = False
    consent: bool = False


@dataclass(frozen=True)
class Cancelled(Event):
    """The job was cancelled; what it had finished is in its checkpoint."""

    kind: ClassVar[str] = "cancelled"
    terminal: ClassVar[bool] = True


@dataclass(frozen=True)
class Finished(Event):
    """The job is done; `result` is its report as plain values."""

    kind: ClassVar[str] = "finished"
    terminal: ClassVar[bool] = True
    result: Json


KINDS: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in (
        Started, Progress, LayerDone, Metric, MaskChanged, Log, Failed, Cancelled, Finished,
    )
}  # fmt: skip


def from_json(data: Json) -> Event:
    """Read what `Event.to_json` wrote; raises KeyError for an unknown kind."""
    values = dict(data)
    return KINDS[values.pop("kind")](**values)
