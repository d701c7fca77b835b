"""Runs plans in processes that can be killed: one line of JSON on stdin each, see `main`.

A child is forked for every plan from a process that has loaded torch and the model once.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from secateur.engine.control import Control
from secateur.engine.plan import Plan
from secateur.engine.runs.clock import Clock
from secateur.engine.workspace import Workspace


class HangAt(Control):
    """Lets a training take `steps` steps; then says so on stdout and waits for its end."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def check(self) -> None:
        if self._left == 0:
            print("hangs", flush=True)
            time.sleep(600)
        self._left -= 1
        super().check()


def child(workspace: Workspace, asked: dict[str, Any]) -> None:
    """Run a plan as the engine does; a checkpoint is due after every step, not every 5 s."""
    Clock.checkpoint_due = lambda clock: True  # type: ignore[method-assign]
    plan, control = Plan.from_json(asked["plan"]), HangAt(asked["steps"])
    for _ in workspace.prune(plan, Path(asked["folder"]), "cpu", True, control):
        pass


def main() -> None:
    """For each line ``{"plan", "folder", "steps"}``: the child's number, "hangs", its status."""
    torch.set_num_threads(1)
    workspace = Workspace()
    workspace.open(sys.argv[1], None, trust=False)
    for line in sys.stdin:
        number = os.fork()
        if number == 0:
            try:
                child(workspace, json.loads(line))
            finally:
                os._exit(1)
        print(number, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
