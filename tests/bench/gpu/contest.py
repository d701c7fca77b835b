"""Ours against its peers: the same data, taking turns, by the device's own clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from secateur.kernels.dispatch.timing import time_interleaved
from secateur.tests.bench.gpu.setting import (
    Broken,
    Case,
    Json,
    Setting,
    distance,
    fp32_precision,
    reason,
)

Call = Callable[[], object]
Calls = Sequence[Call]

OURS = "ours"
# A call that takes longer hides what it costs to start it.
_SHORT = 0.3e-3
_NO_CALLS: Mapping[str, Calls] = {}


@dataclass(frozen=True)
class Contest:
    """Candidates of one row; each is several calls, one for each copy of its data.

    `wanted` is what the first call gives, within `tolerance` (see `distance`). `also` are other
    ways of ours, timed beside. One call moves `moved` bytes at the least and does `work`
    operations at the `rate` of that name in the machine's limits.
    """

    ours: Calls
    peers: Mapping[str, Calls]
    wanted: Call
    tolerance: float
    moved: float
    work: float = 0.0
    rate: str = "fp32"
    also: Mapping[str, Calls] = field(default_factory=lambda: _NO_CALLS)


class Wrong(AssertionError):
    """The result is not the reference's."""


def contest(
    topic: str, name: str, build: Callable[[Setting], Contest], precision: str = "ieee"
) -> Case:
    """The row of a contest; `precision` is for fp32, see `fp32_precision`."""
    return Case(topic, name, partial(_hold, topic, build, precision))


def _hold(
    topic: str,
    build: Callable[[Setting], Contest],
    precision: str,
    setting: Setting,
    seconds: float,
) -> Json:
    with fp32_precision(precision), torch.inference_mode():
        row = build(setting)
        wanted = row.wanted()
        error = _check(row.ours, wanted, row.tolerance, setting)
        running, failed = {OURS: row.ours}, {}
        for name, calls in {**row.peers, **row.also}.items():
            try:
                _check(calls, wanted, row.tolerance, setting)
                running[name] = calls
            except Broken:
                raise
            except Exception as fault:
                setting.settle()
                failed[name] = reason(fault)
        peers = [name for name in row.peers if name in running]
        if not peers:
            raise RuntimeError(f"no peer ran: {failed}")
        del wanted
        ready, clock = _ready(topic, running, setting)
        times = time_interleaved(ready, seconds=seconds, device=setting.device.type)
        setting.settle()
    copies = len(row.ours)
    return {
        "kind": "contest",
        "ms": {
            name: [each.median_ms / copies, each.q1 / copies, each.q3 / copies, each.n]
            for name, each in times.items()
        },
        "peers": peers,
        "failed": failed,
        "error": error,
        "clock": clock,
        "moved": row.moved,
        "work": row.work,
        "rate": row.rate,
    }


def _check(calls: Calls, wanted: object, tolerance: float, setting: Setting) -> float:
    """Run every call, the first one against the reference."""
    error = distance(calls[0](), wanted)
    setting.settle()
    if not error <= tolerance:
        raise Wrong(f"off by {error:.1e}, more than {tolerance:.0e}")
    for call in calls[1:]:
        call()
    setting.settle()
    return error


def _ready(
    topic: str, running: Mapping[str, Calls], setting: Setting
) -> tuple[dict[str, Call], str]:
    """Each candidate as one call that runs all of its own, and how it is started.

    Where one is over before the next could be started, all become graphs of the device; if any
    can't, none do.
    """
    whole: dict[str, Call] = {name: partial(_all, calls) for name, calls in running.items()}
    if (
        not setting.on_gpu
        or topic in setting.without_graphs
        or min(map(_seconds, running.values())) > _SHORT
    ):
        return whole, "calls"
    try:
        return {name: _graph(call) for name, call in whole.items()}, "graphs"
    except Exception as error:
        setting.without_graphs.add(topic)
        setting.settle()
        return whole, f"calls, as no graph could be made ({reason(error)})"


def _all(calls: Calls) -> None:
    for call in calls:
        call()


def _seconds(calls: Calls) -> float:
    """What one call takes, its start included."""
    torch.cuda.synchronize()
    begin = time.perf_counter()
    _all(calls)
    torch.cuda.synchronize()
    return (time.perf_counter() - begin) / len(calls)


def _graph(call: Call) -> Call:
    """The call's kernels as one graph; on another stream first, as torch's notes ask for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        call()
    return graph.replay
