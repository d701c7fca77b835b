"""What the session's state means for the person: what can't be done now, and where it computes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from ...engine.info import ModelInfo
from ...engine.plan import Plan, Rule
from .assigned import Assigned
from .client import EngineClient
from .plan_reasons import needs_data, no_teacher, wrong_steps


class State(Protocol):
    """What of a session decides that."""

    @property
    def engine_state(self) -> str: ...
    @property
    def engine_text(self) -> str: ...
    @property
    def busy(self) -> str: ...
    @property
    def info(self) -> ModelInfo | None: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def project(self) -> Path | None: ...
    @property
    def assigned(self) -> Assigned: ...
    @property
    def steps_per_epoch(self) -> int | None: ...
    def rules_in_use(self) -> Iterable[Rule]: ...


def why_not(session: State, action: str) -> str:
    """Why ``open``, ``prune``, ``measure`` or ``export`` can't be done now, else empty."""
    state = session.engine_state
    if state != "ready" and (action, state) != ("open", "starting"):
        return f"The engine is {session.engine_text}"
    if session.busy:
        return f"{session.busy} is under way"
    if action == "open":
        return ""
    if session.info is None:
        return "Open a model first"
    if action == "prune" and not any(session.rules_in_use()) and not session.plan.take_zeros:
        return "The plan prunes nothing yet: choose a pattern for a layer"
    if action == "prune":
        asked = session.plan, session.info
        return (
            session.assigned.refusal
            or needs_data(*asked)
            or no_teacher(*asked)
            or wrong_steps(session.plan, session.steps_per_epoch)
        )
    if action == "measure" and not session.info.runnable:
        return "A bare state dict can't be run: open it with its architecture"
    if action == "export" and session.project is None:
        return "Prune first: an export holds the pruned model"
    return ""


def engine_words(client: EngineClient) -> str:
    """Where the engine computes: ``CPU, 2 threads``; or why it does not."""
    hello = client.hello
    if client.state != "ready" or not hello:
        return {"starting": "starting…", "failed": "not running"}.get(client.state, "stopped")
    if hello.get("device") == "cuda":
        return str(hello.get("device_name") or "CUDA")
    threads = int(hello.get("threads") or 1)
    return f"CPU, {threads} thread{'s' if threads != 1 else ''}"
