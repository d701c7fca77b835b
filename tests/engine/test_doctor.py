from __future__ import annotations

import json
import sys

from secateur.engine.doctor import examine, render
from secateur.engine.machine import describe


def test_the_machine_is_described_in_plain_values():
    machine = describe()
    assert json.loads(json.dumps(machine)) == machine
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert machine["threads"] >= 1
    assert machine["memory"] > 1 << 28


def test_every_check_says_something_and_failures_advise():
    result = examine()
    assert json.loads(json.dumps(result)) == result
    rows = {row["name"]: row for row in result["checks"]}
    assert {"GPU", "CUDA", "CuPy", "NVRTC", "ONNX Runtime", "Qt", "threads", "memory"} <= set(rows)
    assert rows["kernels"]["ok"] == rows["NVRTC"]["ok"], rows["kernels"]
    assert "CUDA sources compile for sm_" in rows["kernels"]["text"]
    for row in rows.values():
        assert set(row) == {"name", "ok", "text", "advice"}
        assert row["text"]
        assert row["ok"] or row["advice"]
    assert rows["GPU"]["ok"] == (result["machine"]["cuda"] is not None)
    assert rows["ONNX Runtime"]["ok"]
    text = render(result)
    assert all(row["text"] in text for row in rows.values())


def test_openmp_that_spins_is_advised_against(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs.nvrtc", None)  # compiles take seconds
    (row,) = [row for row in examine()["checks"] if row["name"] == "waiting"]
    assert not row["ok"]
    assert "passive" in row["advice"]


def test_a_library_that_is_missing_is_a_row_and_no_error(monkeypatch):
    for name in ("cupy", "cupy_backends.cuda.libs.nvrtc", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    rows = {row["name"]: row for row in examine()["checks"]}
    for name in ("CuPy", "NVRTC", "kernels", "ONNX Runtime"):
        assert not rows[name]["ok"]
        assert rows[name]["advice"]
