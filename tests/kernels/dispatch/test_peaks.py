from __future__ import annotations

import pytest
import torch

from secateur.kernels.dispatch import peaks as peaks_module
from secateur.kernels.dispatch.memory import Memory
from secateur.kernels.dispatch.peaks import Peaks, peaks
from secateur.kernels.modules.work import Work

CPU = torch.device("cpu")


def test_peaks_are_measured_once_for_each_dtype_and_anew_when_it_is_quieter(tmp_path, monkeypatch):
    monkeypatch.setattr(peaks_module.Watch, "disturbed", lambda self: False)
    fixed = [4.0]
    monkeypatch.setattr(peaks_module, "fixed_work", lambda device: fixed[0])
    first = peaks(CPU, ["float32"], Memory(tmp_path))
    assert first.gflops["float32"] > 1
    assert first.gb_per_s > 0.1
    second = peaks(CPU, ["float32", "bfloat16"], Memory(tmp_path))
    assert second.gflops["float32"] == first.gflops["float32"]
    assert second.gb_per_s == first.gb_per_s
    with monkeypatch.context() as patch:
        patch.setattr(peaks_module, "_best_ms", None)  # nothing is timed any more
        assert peaks(CPU, ["bfloat16"], Memory(tmp_path)) == second
    fixed[0] = 2.0
    assert peaks(CPU, ["float32"], Memory(tmp_path)).gb_per_s != second.gb_per_s


def test_peaks_of_a_busy_machine_are_measured_again_until_it_is_quiet(tmp_path, monkeypatch):
    busy, speeds = [True], iter([5.0, 3.0, 9.0])
    monkeypatch.setattr(peaks_module.Watch, "disturbed", lambda self: busy[0])
    monkeypatch.setattr(peaks_module, "fixed_work", lambda device: 1.0)
    monkeypatch.setattr(peaks_module, "_gflops", lambda device, dtype: next(speeds))
    first = peaks(CPU, ["float32"], Memory(tmp_path))
    assert (first.gflops, first.disturbed) == ({"float32": 5.0}, True)
    assert first.roofline(Work(5, 5), "float32", 1.0)["disturbed"]
    second = peaks(CPU, ["float32"], Memory(tmp_path))
    assert (second.gflops, second.disturbed) == ({"float32": 5.0}, True), "the better one is kept"
    busy[0] = False
    third = peaks(CPU, ["float32"], Memory(tmp_path))
    assert (third.gflops, third.disturbed) == ({"float32": 9.0}, False)
    assert peaks(CPU, ["float32"], Memory(tmp_path)) == third, "nothing is timed any more"


def test_a_dtype_that_the_device_cannot_multiply_has_no_peak():
    found = peaks(CPU, ["float32", "float8_e4m3fn"], Memory(None))
    assert set(found.gflops) == {"float32"}


def test_the_roof_is_the_lower_of_its_two_sides():
    roof = Peaks({"float32": 100.0}, 10.0)
    # 2e9 operations: 20 ms; 1e8 bytes: 10 ms.
    found = roof.roofline(Work(2 * 10**9, 10**8), "float32", 40.0)
    assert (found["bound"], found["limit_ms"], found["share"]) == ("compute", 20.0, 0.5)
    found = roof.roofline(Work(2 * 10**8, 10**9), "float32", 200.0)
    assert (found["bound"], found["limit_ms"], found["share"]) == ("memory", 100.0, 0.5)


@pytest.mark.parametrize(("work", "dtype"), [(Work(5, 5), "mixed"), (Work(0, 5), "float32")])
def test_no_roof_where_there_is_none(work, dtype):
    assert Peaks({"float32": 100.0}, 10.0).roofline(work, dtype, 1.0) is None
