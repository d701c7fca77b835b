"""Starts the measuring process, and another one where it is lost or hangs; collects the rows."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from secateur.tests.bench.gpu.setting import Json

# For Python, torch and the device to start.
_START = 90.0
# What a row may take beyond the end of all time, before it counts as hung.
_GRACE = 20.0
# So often rows of one group may lose the device; the others are then left out.
_LOSSES = 3


def supervise(command: Sequence[str], seconds: float, note: Callable[[Json], None]) -> list[Json]:
    """All rows in order, of processes that `command` starts; `note` is told each as it comes.

    A row at which a process was lost says so, and the next process goes on after it: its place,
    its time and the groups to leave out are added to the command. A process tells rows as lines of
    JSON, before each one with its group as ``begun`` and the ``patience`` for it in seconds. The
    `seconds` are for all; a row that has begun by then may end.
    """
    end = time.monotonic() + seconds
    rows: list[Json] = []
    losses: Counter[str] = Counter()
    while True:
        left, before = end - time.monotonic(), len(rows)
        without = [
            word for each, n in losses.items() if n >= _LOSSES for word in ("--without", each)
        ]
        place = ("--skip", str(before), "--seconds", f"{max(left, 0):.1f}")
        code, group = _one((*command, *place, *without), end, rows, note)
        if code == 0 or len(rows) == before:  # done, or it does not even start
            return rows
        losses[group] += 1


def _one(
    command: Sequence[str], end: float, rows: list[Json], note: Callable[[Json], None]
) -> tuple[int, str]:
    """Run one process: how it ended, and the group of its last row."""
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={"OMP_WAIT_POLICY": "passive", **os.environ}
    )
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=_read, args=(child, lines), daemon=True)
    reader.start()
    begun: Json | None = None
    group, patience, hung = "", _START, False
    while True:
        try:
            line = lines.get(timeout=patience)
        except queue.Empty:
            hung = True
            child.kill()
            break
        if not line:
            break
        found = _parsed(line)
        if found is None:
            print(line, end="", file=sys.stderr)  # a library's words
        elif "begun" in found:
            begun, group = found, found["begun"]
            patience = min(found["patience"], max(0.0, end - time.monotonic()) + _GRACE)
        else:
            begun, patience = None, _START
            rows.append(found)
            note(found)
    code = child.wait()
    reader.join()
    if begun is not None:
        why = f"did not return in {patience:.0f} s" if hung else f"the process ended with {code}"
        rows.append({"topic": begun["topic"], "name": begun["name"], "lost": True, "reason": why})
        note(rows[-1])
    return code, group


def _parsed(line: str) -> Json | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _read(child: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    """Pass its lines on, at the end an empty one."""
    assert child.stdout is not None
    with child.stdout as stream:
        for line in stream:
            lines.put(line)
    lines.put("")
