"""How long something takes and how a run stands, in words."""

from __future__ import annotations

from ..state.run_state import RunState


def duration(seconds: float) -> str:
    """A time in words: ``1 min 12 s``."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def status_words(run: RunState) -> str:
    """What stands beside the progress: ``epoch 3 of 8 · 1 min 12 s left``."""
    if run.state == "done":
        return "done"
    if run.state == "cancelled":
        return "cancelled; what was finished is kept"
    if run.state == "failed":
        # Python's own words are for the log and the notice's details.
        return "stopped by a fault in the engine" if run.detail else run.error or "failed"
    words = [run.text] if run.text else []
    if run.state == "paused":
        words.append("paused")
    elif run.seconds_left is not None:
        words.append(f"{duration(run.seconds_left)} left")
    return " · ".join(words)
