"""What a finished run's report still says of it: its curves, its sparsities, how long data is."""

from __future__ import annotations

from typing import Any

from ...engine.plan import Plan
from .run_state import RunState


def run_of(report: dict[str, Any], title: str) -> RunState:
    """The run as it stood at its end, from the report in its project."""
    dense = (report.get("accuracy") or {}).get("dense")
    before = [(0, {"dense_accuracy": float(dense)})] if dense is not None else []
    history = [
        (int(row["step"]), {k: float(v) for k, v in row.items() if k != "step"})
        for row in report.get("history") or ()
    ]
    steps = int(report.get("steps") or 0)
    return RunState(
        kind="prune",
        title=title,
        state="done",
        done=steps,
        total=steps,
        metrics=(*before, *history),
        sparsity={row["path"]: float(row["achieved"]) for row in report.get("layers") or ()},
        log=(*(("", str(note)) for note in report.get("notes") or ()), ("", _took(report, steps))),
    )


def _took(report: dict[str, Any], steps: int) -> str:
    words = f"{steps:,} training steps" if steps else "done"
    return f"{words} in {float(report.get('seconds') or 0.0):,.1f} s"


def steps_per_epoch(plan: Plan, report: dict[str, Any] | None) -> int | None:
    """Steps of one pass over the plan's data, where the last run had the same data and batch."""
    history = (report or {}).get("history") or ()
    before = Plan.from_json((report or {})["plan"]).training if history else None
    now = plan.training
    if before is None or now is None or (before.data, before.batch) != (now.data, now.batch):
        return None
    # The first measurement is at the end of the first epoch.
    return next((int(row["step"]) for row in history if "accuracy" in row), None)
