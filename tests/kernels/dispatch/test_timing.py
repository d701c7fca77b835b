from __future__ import annotations

import time

import pytest

from secateur.kernels.dispatch.timing import time_interleaved


def test_interleaved_timing_tells_a_long_from_a_short_call():
    times = time_interleaved(
        {"short": lambda: time.sleep(0.001), "long": lambda: time.sleep(0.004)}, seconds=0.1
    )
    short, long = times["short"], times["long"]
    assert short.q1 <= short.median_ms <= short.q3
    assert short.median_ms >= 1
    assert long.median_ms > short.median_ms
    assert short.n == long.n >= 7


def test_timing_ends_when_the_check_raises():
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        time_interleaved({"short": lambda: None}, check=stop)


def test_what_a_first_call_compiles_is_in_no_sample():
    calls = []

    def compiles_first() -> None:
        if not calls:
            time.sleep(0.3)
        calls.append(time.perf_counter())

    timing = time_interleaved({"ours": compiles_first, "other": lambda: None}, seconds=0.05)["ours"]
    # A sample lasts half a millisecond, so that of an empty call it holds many.
    assert len(calls) > 10 * timing.n
