"""What the person sees of a run: one frozen value, moved on by the engine's events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from ...engine import events

T = TypeVar("T")
_MAX_LOG = 400
_MAX_METRICS = 1200
ACTIVE = ("running", "paused")


@dataclass(frozen=True)
class RunState:
    """A run as it stands.

    `kind` is the job ("prune", "measure"), `state` one of idle, running, paused, done, failed and
    cancelled. `done` of `total` steps (total 0: unknown). `metrics` holds (step, values) in order,
    thinned out where a run is very long; `changes` holds (step, dropped, regrown) of each change of
    the masks, thinned out alike. `sparsity` is the achieved sparsity by layer path. `log`
    holds (time, text), oldest first. `error` says in one sentence why a run failed.
    """

    kind: str = ""
    title: str = ""
    state: str = "idle"
    done: int = 0
    total: int = 0
    text: str = ""
    seconds_left: float | None = None
    metrics: tuple[tuple[int, dict[str, float]], ...] = ()
    changes: tuple[tuple[int, int, int], ...] = ()
    sparsity: dict[str, float] | None = None
    log: tuple[tuple[str, str], ...] = ()
    error: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        if self.sparsity is None:
            object.__setattr__(self, "sparsity", {})

    @property
    def active(self) -> bool:
        """Whether the engine still works on it."""
        return self.state in ACTIVE

    @property
    def fraction(self) -> float | None:
        """Share of the steps that is done, None while the total is unknown."""
        return min(1.0, self.done / self.total) if self.total else None


def advance(state: RunState, event: events.Event, now: str = "") -> RunState:
    """The state after `event`, which happened at the time of day `now` ("12:04:31"). Pure."""
    match event:
        case events.Started():
            title = state.title or event.title
            state = replace(
                state, state="running", title=title, total=event.total, done=0, text="starting"
            )
            return _logged(state, now, title)
        case events.Progress():
            total = event.total or state.total
            text = event.text or state.text
            return replace(
                state, done=event.done, total=total, text=text, seconds_left=event.seconds_left
            )
        case events.LayerDone():
            achieved = event.values.get("achieved")
            if achieved is None:
                return state
            sparsity = {**(state.sparsity or {}), event.path: float(achieved)}
            return _logged(
                replace(state, sparsity=sparsity), now, f"{event.path} at {achieved * 100:.1f} %"
            )
        case events.Metric():
            return replace(state, metrics=_thinned((*state.metrics, (event.step, event.values))))
        case events.MaskChanged():
            state = replace(state, sparsity={**(state.sparsity or {}), **event.sparsity})
            if not event.dropped and not event.regrown:
                return state
            change = (event.step, event.dropped, event.regrown)
            state = replace(state, changes=_thinned((*state.changes, change)))
            words = f"masks: {event.dropped:,} weights dropped"
            return _logged(
                state, now, words + (f", {event.regrown:,} regrown" if event.regrown else "")
            )
        case events.Log():
            return _logged(state, now, event.text)
        case events.Finished():
            done = replace(state, state="done", done=state.total, seconds_left=None)
            return _logged(done, now, "done")
        case events.Cancelled():
            stopped = replace(state, state="cancelled", seconds_left=None)
            return _logged(stopped, now, "cancelled")
        case events.Failed():
            failed = replace(
                state, state="failed", error=event.message, detail=event.detail, seconds_left=None
            )
            return _logged(failed, now, event.message)
    return state


def _thinned(rows: tuple[T, ...]) -> tuple[T, ...]:
    """Every second of the older rows, where there are very many."""
    return (*rows[:-200:2], *rows[-200:]) if len(rows) > _MAX_METRICS else rows


def _logged(state: RunState, now: str, text: str) -> RunState:
    return replace(state, log=(*state.log[1 - _MAX_LOG :], (now, text)))
