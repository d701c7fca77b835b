"""The process that does the measuring: one row after the other, each told as a line of JSON.

A kernel's fault leaves the process without a device, and a kernel that hangs never gives it back;
so who started it (supervisor.py) starts another one at the next row.
"""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from secateur.tests.bench.gpu.setting import Broken, Case, Json, Setting, reason
from secateur.tests.bench.gpu.topics import topics

# Of a row's time so much goes to timing, the rest to making data and checking.
_TIMING = 0.4
_LEAST, _MOST = 0.05, 0.6


@dataclass(frozen=True)
class Share:
    """A process's part: rows whose "topic/name" the expression `only` finds, from row `skip` on.

    `without` are groups of rows that are left out, `seconds` the time for all.
    """

    only: str
    skip: int
    without: Sequence[str]
    seconds: float


def work(setting: Setting, share: Share) -> bool:
    """Run the rows; returns whether the device was fine to the end.

    The topics have the time as they wish; what one leaves goes to the others.
    """
    torch.backends.cudnn.benchmark = True
    end, number = time.perf_counter() + share.seconds, 0
    plan = [(each, _matching(each.key, each.cases(setting), share.only)) for each in topics()]
    wishes = sum(topic.wish for topic, cases in plan if cases)
    for topic, cases in plan:
        now = time.perf_counter()
        stop = now + (end - now) * topic.wish / max(wishes, topic.wish)
        wishes -= topic.wish if cases else 0
        for place, case in enumerate(cases):
            number += 1
            if number <= share.skip:
                continue
            row, left = {"topic": topic.key, "name": case.name}, stop - time.perf_counter()
            if case.group in share.without:
                _tell(row | {"reason": f"left out: {case.group} lost the device before"})
            elif left <= 0:
                _tell(row | {"reason": "no time left"})
            else:
                _tell(row | {"begun": case.group, "patience": case.patience})
                each = _TIMING * left / (len(cases) - place)
                if not _run(case, row, setting, min(_MOST, max(_LEAST, each))):
                    return False
    return True


def _matching(topic: str, cases: list[Case], only: str) -> list[Case]:
    """The rows to run; without the machine and its limits no table has a meaning."""
    if topic == "machine" and only:
        return [case for case in cases if case.group != "compilation"]
    return [case for case in cases if re.search(only, f"{topic}/{case.name}")]


def _run(case: Case, row: Json, setting: Setting, seconds: float) -> bool:
    """One row; False where the device is lost."""
    begin, fine = time.perf_counter(), True
    torch.manual_seed(zlib.crc32(case.name.encode()))
    try:
        found = case.run(setting, seconds)
    except Broken as error:
        found, fine = {"reason": str(error)}, False
    except Exception as error:
        found = {"reason": reason(error)}
    if fine:
        try:
            setting.settle()
        except Broken as error:
            found, fine = found | {"reason": found.get("reason", str(error))}, False
    _tell(found | row | {"lost": not fine, "seconds": time.perf_counter() - begin})
    if fine and setting.on_gpu:
        torch.cuda.empty_cache()
    return fine


def _tell(line: Json) -> None:
    print(json.dumps(line, default=str), flush=True)
